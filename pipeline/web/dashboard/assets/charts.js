// Charts: the numbers below the pointer, and dragging over a stretch of time shows that stretch.
// The numbers are those of the table in each figure.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 52;
const RIGHT = 12;

const add = (parent, tag, attributes) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return parent.appendChild(element);
};

const listRows = (figure) => [...figure.querySelectorAll("tbody tr")];

// Which point is below the pointer.
const findPosition = (svg, event, many) => {
  const box = svg.getBoundingClientRect();
  const width = svg.viewBox.baseVal.width;
  const x = ((event.clientX - box.left) / box.width) * width;
  const share = (x - LEFT) / (width - LEFT - RIGHT);
  return Math.max(0, Math.min(many - 1, Math.round(share * (many - 1))));
};

const findX = (svg, position, many) => {
  const width = svg.viewBox.baseVal.width - LEFT - RIGHT;
  return many < 2 ? LEFT + width / 2 : LEFT + (width * position) / (many - 1);
};

const showTip = (figure, svg, position, rows) => {
  let tip = figure.querySelector(".tip");
  if (!tip) {
    tip = document.createElement("div");
    tip.className = "tip";
    tip.setAttribute("aria-hidden", "true");
    figure.append(tip);
  }
  const cells = [...rows[position].children].map((cell) => cell.textContent);
  tip.textContent = `${cells[0]}: ${cells[1]}` + (cells[3] ? ` (${cells[2]}: ${cells[3]})` : "");
  const x = findX(svg, position, rows.length);
  const at = (x / svg.viewBox.baseVal.width) * svg.getBoundingClientRect().width;
  const room = figure.getBoundingClientRect().width - tip.offsetWidth;
  tip.style.left = `${Math.max(0, Math.min(room, at - tip.offsetWidth / 2))}px`;
  svg.querySelector(".cursor")?.remove();
  const bottom = svg.viewBox.baseVal.height - 28;
  add(svg, "line", { class: "cursor", x1: x, x2: x, y1: 12, y2: bottom });
};

const hideTip = (figure) => {
  for (const shown of figure.querySelectorAll(".tip, .cursor, .zoomed")) shown.remove();
};

// The URL of the same page for a stretch of days.
const zoom = (figure, rows, from, to) => {
  const [first, last] = [from, to].sort((a, b) => a - b).map((n) => rows[n].dataset.at);
  const next = rows[Math.max(from, to) + 1]?.dataset.at;
  const url = new URL(location.href);
  for (const name of ["range", "by", "page"]) url.searchParams.delete(name);
  url.searchParams.set("from", first.slice(0, 10));
  // A week or a month ends on the day before the next one begins.
  const isLonger = ["week", "month"].includes(figure.dataset.zoom);
  let end = last.slice(0, 10);
  if (isLonger && next) {
    const day = new Date(`${next.slice(0, 10)}T00:00:00Z`);
    day.setUTCDate(day.getUTCDate() - 1);
    end = day.toISOString().slice(0, 10);
  } else if (isLonger) {
    end = figure.dataset.end || end;
  }
  url.searchParams.set("to", end);
  location.assign(url);
};

const watch = (figure) => {
  const rows = listRows(figure);
  if (!rows.length || !rows[0].dataset.at) return;
  for (const svg of figure.querySelectorAll("svg.chart")) {
    let began = null;
    svg.addEventListener("pointermove", (event) => {
      const position = findPosition(svg, event, rows.length);
      showTip(figure, svg, position, rows);
      if (began === null || began === position) return;
      svg.querySelector(".zoomed")?.remove();
      const [a, b] = [began, position].sort((one, two) => one - two);
      const x = findX(svg, a, rows.length);
      const width = findX(svg, b, rows.length) - x;
      add(svg, "rect", { class: "zoomed", x, width, y: 12, height: svg.viewBox.baseVal.height - 40 });
    });
    svg.addEventListener("pointerleave", () => began === null && hideTip(figure));
    if (!figure.dataset.zoom) continue;
    svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.pointerType === "touch") return;
      began = findPosition(svg, event, rows.length);
      svg.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    svg.addEventListener("pointerup", (event) => {
      const position = findPosition(svg, event, rows.length);
      if (began !== null && began !== position) zoom(figure, rows, began, position);
      began = null;
      hideTip(figure);
    });
  }
};

const watchAll = (root) => root.querySelectorAll("figure[data-chart]").forEach(watch);

watchAll(document);
// A card that was refreshed has new charts.
document.addEventListener("htmx:after:swap", (event) => {
  const target = event.detail?.ctx?.target;
  const card = target?.id && document.getElementById(target.id);
  if (card) watchAll(card);
});
