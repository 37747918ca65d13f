"use strict";
for (const map of document.querySelectorAll(".map-and-detail")) {
  const panel = map.querySelector(".detail");
  const rows = [...map.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll("td")]);
  let current;
  const show = (cell) => {
    current?.classList.remove("on");
    current = cell;
    cell.classList.add("on");
    const lines = cell.dataset.detail.split("\n").map((line, index) => {
      const part = document.createElement("p");
      const text = index ? part : part.appendChild(document.createElement("b"));
      text.textContent = line;
      return part;
    });
    const link = cell.querySelector("a")?.cloneNode();
    if (link) {
      link.textContent = "Packet by packet";
      link.removeAttribute("tabindex");
      lines.push(link);
    }
    panel.replaceChildren(...lines);
  };
  rows.forEach((row, y) => row.forEach((cell, x) => {
    // The panel takes the place of the tooltip, and arrow keys that of Tab.
    cell.removeAttribute("title");
    cell.tabIndex = x || y ? -1 : 0;
    cell.querySelector("a")?.setAttribute("tabindex", "-1");
    cell.setAttribute("aria-label", cell.dataset.detail);
    cell.addEventListener("pointerenter", () => show(cell));
    cell.addEventListener("click", () => show(cell));
    cell.addEventListener("focus", () => show(cell));
    cell.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const next = step && rows[y + step[1]]?.[x + step[0]];
      if (next) {
        event.preventDefault();
        cell.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
      } else if (event.key === "Enter") {
        cell.querySelector("a")?.click();
      }
    });
  }));
}
const reveal = () => {
  const target = /^#cell-/.test(location.hash) && document.getElementById(location.hash.slice(1));
  if (target) {
    target.focus({ preventScroll: true });
    target.scrollIntoView({ block: "center", inline: "center" });
  }
};
addEventListener("hashchange", reveal);
reveal();
