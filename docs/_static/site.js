// Sphinx puts a formula of several lines in "split", where no tag is allowed. On a narrow page, formulas that stand side
// by side go below each other, and a tag goes below its formula.
for (const block of document.querySelectorAll("div.math")) {
  let formula = block.textContent.trim().slice(2, -2);
  const tag = formula.match(/\\tag\{(.*?)\}/);
  if (tag) formula = formula.replace(tag[0], "").replace(/^\\begin\{split\}([^]*)\\end\{split\}$/, "$1").trim();
  let lines = [formula];
  if (window.innerWidth < 600) {
    if (/\\q?quad|Longrightarrow/.test(formula) && !/\\begin|&/.test(formula)) {
      lines = formula.split(/\\q?quad(?![a-z])|(?=\\;\s*\\Longrightarrow)/).filter((line) => line.trim());
    }
    if (tag) lines.push(`\\text{(${tag[1]})}`);
  } else if (tag) block.textContent = `\\[${formula}${tag[0]}\\]`;
  if (lines.length > 1) block.textContent = `\\[\\begin{gathered}${lines.join("\\\\")}\\end{gathered}\\]`;
}
// No line begins with the comma after a formula, or ends with the bracket before it.
for (const formula of document.querySelectorAll("span.math")) {
  const [before, after] = [formula.previousSibling, formula.nextSibling];
  const open = before?.nodeType === Node.TEXT_NODE && before.data.match(/[(\[“]+$/)?.[0];
  const close = after?.nodeType === Node.TEXT_NODE && after.data.match(/^[.,;:!?)\]”]+/)?.[0];
  if (open) before.data = before.data.slice(0, -open.length);
  if (close) after.data = after.data.slice(close.length);
  if (open) formula.prepend(open);
  if (close) formula.append(close);
}
// A folded cell is called what it shows: "Show code cell source".
for (const summary of document.querySelectorAll("details.hide > summary")) summary.removeAttribute("aria-label");
// A display formula that is wider than the page is drawn smaller, down to 65 per cent; what is still wider scrolls.
function fit() {
  for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
    formula.dataset.size ??= parseFloat(formula.style.fontSize) || 100;
    formula.style.fontSize = `${formula.dataset.size}%`;
    const room = Math.min(formula.clientWidth, formula.parentElement.clientWidth);  // one with a tag never shrinks
    const ratio = room / formula.scrollWidth;
    if (ratio < 1) formula.style.fontSize = `${formula.dataset.size * Math.max(0.65, 0.99 * ratio)}%`;
  }
  // A cell's picture of several panels keeps a width at which its labels can be read, and scrolls.
  for (const picture of document.querySelectorAll(".cell_output img")) {
    if (picture.naturalWidth <= 900) continue;
    picture.style.minWidth = "38rem";
    picture.tabIndex = 0;  // so that it scrolls by the keyboard too
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
