// What a browser finds wrong with a page, as a list of sentences. All details are opened first.
(() => {
  const wrong = [];
  for (const one of document.querySelectorAll("details")) one.open = true;
  const shown = (element) => {
    const name = element.getAttribute("class");
    return `${element.tagName.toLowerCase()}${name ? "." + name : ""} '${element.textContent.trim().slice(0, 40)}'`;
  };
  const scrolls = (element) => element.closest(".wide, pre") !== null;

  // Nothing is wider than the window, but for what scrolls in a box of its own.
  const width = document.documentElement.clientWidth;
  if (document.scrollingElement.scrollWidth > width) {
    wrong.push(`the page scrolls sideways: ${document.scrollingElement.scrollWidth} of ${width}`);
  }
  for (const element of document.querySelectorAll("body *")) {
    if (scrolls(element) || element.closest("svg.split") !== null) continue;
    const box = element.getBoundingClientRect();
    if (box.right > width + 0.5 || box.left < -0.5) wrong.push(`${shown(element)} is wider than the window`);
  }

  // Texts with their boxes: each line of each text node, and each text of a drawing.
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.textContent.trim() || parent.closest("script, title, style") !== null) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      if (box.width > 0 && box.height > 0) texts.push({ node, parent, box });
    }
  }
  if (texts.length < 20) wrong.push(`only ${texts.length} texts are visible`);

  // No text lies on another one. What runs on in the same line may touch.
  texts.sort((a, b) => a.box.top - b.box.top);
  texts.forEach((a, i) => {
    for (let j = i + 1; j < texts.length && texts[j].box.top < a.box.bottom - 2; j += 1) {
      const b = texts[j];
      const across = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
      const down = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
      if (a.node !== b.node && across > 1 && down > 2) {
        wrong.push(`${shown(a.parent)} lies on ${shown(b.parent)}`);
      }
    }
  });

  // No text of a drawing leaves the drawing.
  for (const { parent, box } of texts) {
    const drawing = parent.closest("svg");
    if (drawing === null) continue;
    const frame = drawing.getBoundingClientRect();
    const inside = box.left >= frame.left - 1 && box.right <= frame.right + 1;
    if (!inside || box.top < frame.top - 1 || box.bottom > frame.bottom + 1) {
      wrong.push(`${shown(parent)} leaves its drawing`);
    }
  }

  // Contrast: WCAG 2.2, 1.4.3 for texts, 1.4.11 for marks.
  const colour = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const paper = (element) => {
    for (let one = element; one !== null; one = one.parentElement) {
      const found = colour(getComputedStyle(one).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const under = (element) => {
    const group = element.closest("g");
    const boxes = group === null ? [] : [...group.querySelectorAll("rect")];
    const filled = boxes.find((one) => getComputedStyle(one).fill !== "none");
    return filled === undefined ? paper(element.closest("svg")) : colour(getComputedStyle(filled).fill);
  };
  for (const parent of new Set(texts.map((one) => one.parent))) {
    const style = getComputedStyle(parent);
    const drawn = parent.closest("svg") !== null;
    const found = ratio(colour(drawn ? style.fill : style.color), drawn ? under(parent) : paper(parent));
    if (found < 4.5) wrong.push(`${shown(parent)} has a contrast of ${found.toFixed(2)}`);
  }
  for (const mark of document.querySelectorAll("svg .mark, svg line.limit, svg polyline.front, svg path.edge")) {
    const found = ratio(colour(getComputedStyle(mark).stroke), paper(mark.closest("svg")));
    if (found < 3) wrong.push(`${shown(mark)} has a contrast of ${found.toFixed(2)}`);
  }

  const fetched = performance.getEntriesByType("resource").map((one) => one.name);
  if (fetched.length > 0) wrong.push(`the page fetched ${fetched.join(", ")}`);
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  parent.postMessage(JSON.stringify({ wrong: [...new Set(wrong)], texts: texts.length, width, dark }), "*");
})();
