"use strict";
// Everything can be read without this script: it adds values under the pointer and tables that sort.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, index) => {
    const cell = row.cells[index];
    if ("value" in cell.dataset) return Number(cell.dataset.value);
    const text = cell.textContent.trim();
    const number = parseFloat(text.replace(/,/g, "").replace("−", "-"));
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, undefined, { numeric: true });
  };
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].sort((a, b) => compare(value(a, index), value(b, index)));
      body.append(...(down ? rows.reverse() : rows));
    });
  });
}

for (const drawing of document.querySelectorAll("svg[data-x]")) {
  const axis = (text) => {
    const [low, high, start, end, ...unit] = text.split(" ");
    return { low: +low, high: +high, start: +start, end: +end, unit: unit.join(" ") };
  };
  const x = axis(drawing.dataset.x);
  const y = axis(drawing.dataset.y);
  const log = drawing.dataset.log === "true";
  const curves = [...drawing.querySelectorAll("path[data-label]")].map((path) => ({
    label: path.dataset.label,
    points: path.getAttribute("d").slice(1).split("L").map((pair) => pair.split(",").map(Number)),
  }));
  const invert = (scale, pixel) => {
    const share = (pixel - scale.start) / (scale.end - scale.start);
    return log ? scale.low * (scale.high / scale.low) ** share : scale.low + share * (scale.high - scale.low);
  };
  const write = (scale, pixel) => {
    const value = invert(scale, pixel);
    const digits = (number) => String(Number(number.toPrecision(2)));
    return scale.unit === "%" ? `${digits(100 * value)} %` : `${digits(value)} ${scale.unit}`.trim();
  };
  const height = (points, at) => {
    const after = points.findIndex(([left]) => left >= at);
    if (after < 0 || (after === 0 && points[0][0] > at + 0.5)) return null;
    const [x1, y1] = points[after];
    const [x0, y0] = points[Math.max(0, after - 1)];
    return x1 === x0 ? y1 : y0 + ((at - x0) / (x1 - x0)) * (y1 - y0);
  };
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  drawing.after(tip);
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
  cursor.setAttribute("class", "cursor");
  cursor.setAttribute("visibility", "hidden");
  cursor.setAttribute("y1", y.start);
  cursor.setAttribute("y2", y.end);
  drawing.append(cursor);
  const leave = () => {
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  };
  drawing.addEventListener("pointerleave", leave);
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const scale = box.width / drawing.viewBox.baseVal.width;
    const at = (event.clientX - box.left) / scale;
    if (at < x.start || at > x.end) return leave();
    const lines = [`at ${write(x, at)}`];
    for (const curve of curves) {
      const found = height(curve.points, at);
      if (found !== null) lines.push(`${write(y, found)}  ${curve.label}`);
    }
    tip.replaceChildren(...lines.map((line) => {
      const row = document.createElement("div");
      row.textContent = line;
      return row;
    }));
    tip.hidden = false;
    const outer = drawing.parentElement.getBoundingClientRect();
    const left = box.left - outer.left + at * scale;
    tip.style.left = `${left + 14 + tip.offsetWidth > outer.width ? left - tip.offsetWidth - 14 : left + 14}px`;
    tip.style.top = `${event.clientY - outer.top + 12}px`;
    cursor.setAttribute("x1", at);
    cursor.setAttribute("x2", at);
    cursor.setAttribute("visibility", "visible");
  });
}
