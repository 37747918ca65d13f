"use strict";
const found = [];
addEventListener("error", (event) => found.push("error: " + event.message));

// The relative luminance and contrast of WCAG 2.2.
const channels = (color) => {
  const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number);
  return { rgb: [r, g, b], a };
};
const luminance = ({ rgb }) => {
  const [r, g, b] = rgb.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (one, two) => {
  const [low, high] = [luminance(one), luminance(two)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};
const background = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = channels(getComputedStyle(at).backgroundColor);
    if (color.a > 0) return color;
  }
  return channels("rgb(255, 255, 255)");
};

const checkTexts = () => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("script, style, svg")) continue;
    const color = channels(getComputedStyle(element).color);
    const value = contrast(color, background(element));
    if (value < 4.5) found.push(`contrast ${value.toFixed(1)} of "${node.data.slice(0, 30)}"`);
  }
};

const checkCells = () => {
  for (const cell of document.querySelectorAll(".map tbody td")) {
    if (cell.offsetWidth > 44 || cell.offsetHeight > 30) found.push(`cell ${cell.id} is too large`);
    cell.focus();
    const first = cell.closest(".map-and-detail").querySelector(".detail b")?.textContent;
    if (first !== cell.dataset.detail.split("\n")[0]) found.push(`cell ${cell.id} has no detail`);
  }
};

const checkMaps = () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  for (const map of document.querySelectorAll(".map-and-detail")) {
    const [table, panel] = [map.querySelector(".scroll"), map.querySelector(".detail")];
    const beside = panel.getBoundingClientRect().left >= table.getBoundingClientRect().right;
    if (beside && table.scrollWidth > table.clientWidth + 1) {
      found.push(`${table.scrollWidth - table.clientWidth} pixels of a map are hidden beside its panel`);
    }
    for (const cell of dark ? map.querySelectorAll("tbody td") : []) {
      if (luminance(background(cell)) > 0.55) found.push(`cell ${cell.id} glares`);
    }
  }
};

const checkKeys = () => {
  for (const [first, second] of [...document.querySelectorAll(".map tbody tr")].map((row) => row.querySelectorAll("td"))) {
    first.focus();
    first.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
    if (document.activeElement !== (second ?? first)) found.push(`no way right of ${first.id}`);
  }
};

const checkLadders = () => {
  for (const svg of document.querySelectorAll("svg.ladder")) {
    const frame = svg.getBoundingClientRect();
    const page = channels(getComputedStyle(document.body).backgroundColor);
    const boxes = [...svg.querySelectorAll("text")].map((text) => {
      const style = getComputedStyle(text);
      const behind = text.previousElementSibling;
      const card = behind?.tagName === "rect" ? channels(getComputedStyle(behind).fill) : page;
      const value = contrast(channels(style.fill), card);
      if (value < 4.5) found.push(`contrast ${value.toFixed(1)} of "${text.textContent}"`);
      return { text: text.textContent, box: text.getBoundingClientRect() };
    });
    boxes.forEach(({ text, box }, index) => {
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1) {
        found.push(`"${text}" is outside its ladder`);
      }
      for (const other of boxes.slice(index + 1)) {
        const across = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
        const down = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
        if (across > 2 && down > 2) found.push(`"${text}" covers "${other.text}"`);
      }
    });
  }
};

addEventListener("load", () => {
  try {
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth > clientWidth) found.push(`page is ${scrollWidth} of ${clientWidth} wide`);
    for (const link of document.querySelectorAll("a[href^='#']")) {
      const target = document.getElementById(link.getAttribute("href").slice(1));
      if (!target) found.push(`no ${link.getAttribute("href")}`);
    }
    checkTexts();
    checkCells();
    checkMaps();
    checkKeys();
    checkLadders();
    document.activeElement?.blur();
    scrollTo(0, 0);
  } catch (error) {
    found.push(String(error));
  }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  // The page may be in a frame, for a width that windows cannot have.
  top.document.title = (found.slice(0, 20).join("; ") || "fine") + (dark ? ": dark" : ": light");
});
