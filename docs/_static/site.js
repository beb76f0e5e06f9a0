// On a narrow page, formulas that stand side by side go below each other.
if (window.innerWidth < 600) {
  for (const block of document.querySelectorAll("div.math")) {
    const formula = block.textContent.trim().slice(2, -2);
    if (/\\q?quad|Longrightarrow/.test(formula) && !/\\begin|&/.test(formula)) {
      const lines = formula.split(/\\q?quad(?![a-z])|(?=\\;\s*\\Longrightarrow)/).filter((line) => line.trim());
      block.textContent = `\\[\\begin{gathered}${lines.join("\\\\")}\\end{gathered}\\]`;
    }
  }
}
// A display formula that is wider than the page is drawn smaller, down to 65 per cent; what is still wider scrolls.
function fit() {
  for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
    formula.dataset.size ??= parseFloat(formula.style.fontSize) || 100;
    formula.style.fontSize = `${formula.dataset.size}%`;
    const ratio = formula.clientWidth / formula.scrollWidth;
    if (ratio < 1) formula.style.fontSize = `${formula.dataset.size * Math.max(0.65, 0.99 * ratio)}%`;
  }
}
window.addEventListener("load", () => window.MathJax?.startup?.promise.then(fit));
window.addEventListener("resize", fit);
// An option (--out) and other short code are not broken; a long name in a table or a link is, after a mark.
for (const word of document.querySelectorAll(".bd-article code .pre")) {
  const text = word.textContent;
  if (text.startsWith("-") && text.length < 20) word.style.whiteSpace = "nowrap";
  if (text.length > (word.closest("td") ? 10 : 24) && word.closest("td, a")) {
    const parts = text.match(/[^._/(,:]+[._/(,:]*|[._/(,:]+/g);
    word.replaceChildren(...parts.flatMap((part) => [part, document.createElement("wbr")]));
    if (text.length > 24) word.style.overflowWrap = "anywhere";
  }
}
for (const code of document.querySelectorAll(".bd-article code")) {
  code.classList.toggle("short", code.textContent.length < 13);
}
// A table of sentences: the style sheet shows its rows below each other on a narrow page. The roles say what they are.
for (const table of document.querySelectorAll(".bd-article table.table")) {
  const columns = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
  const cells = [...table.querySelectorAll("tbody td")];
  const long = cells.filter((cell) => cell.textContent.length > 24);
  if (columns.length < 4 || long.length < 0.4 * cells.length) continue;
  table.classList.add("sentences");
  const roles = { table: "table", thead: "rowgroup", tbody: "rowgroup", tr: "row", th: "columnheader", td: "cell" };
  for (const part of [table, ...table.querySelectorAll("thead, tbody, tr, th, td")]) {
    part.setAttribute("role", roles[part.localName]);
  }
  for (const cell of cells) cell.dataset.column = columns[cell.cellIndex];
}
