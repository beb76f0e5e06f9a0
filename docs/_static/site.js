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
// An option (--out) is not broken at its hyphens; a long name in a table is broken after a dot or an underscore.
for (const word of document.querySelectorAll(".bd-article code .pre")) {
  const text = word.textContent;
  if (text.startsWith("-") && text.length < 20) word.style.whiteSpace = "nowrap";
  if (text.length > 10 && word.closest("td")) {
    const parts = text.match(/[^._/(,]+[._/(,]*|[._/(,]+/g);
    word.replaceChildren(...parts.flatMap((part) => [part, document.createElement("wbr")]));
    if (text.length > 24) word.style.overflowWrap = "anywhere";
  }
}
