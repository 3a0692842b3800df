// What somebody sees: texts that run out of the page, and texts that are too faint to read (WCAG 2.1, 1.4.3: 4.5 to 1).
(() => {
  const colour = (text) => {
    const [red, green, blue, alpha] = text.match(/[\d.]+/g).map(Number);
    return { red, green, blue, alpha: alpha ?? 1 };
  };
  const luminance = ({ red, green, blue }) => {
    const [r, g, b] = [red, green, blue].map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = colour(getComputedStyle(at).backgroundColor);
      if (found.alpha === 1) return found;
    }
    return { red: 255, green: 255, blue: 255, alpha: 1 };
  };
  const width = document.documentElement.clientWidth;
  const outside = [];
  const faint = [];
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode;
    const element = text.parentElement;
    const range = document.createRange();
    range.selectNodeContents(text);
    const box = range.getBoundingClientRect();
    const hidden = getComputedStyle(element.closest("caption, thead") ?? element).position === "absolute";
    if (!text.data.trim() || box.width === 0 || hidden) continue;
    texts += 1;
    if (box.right > width + 1 || box.left < -1) outside.push(text.data);
    const [ink, paper] = [luminance(colour(getComputedStyle(element).color)), luminance(behind(element))];
    const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(2)}: ${text.data}`);
  }
  return {
    texts,
    outside,
    faint,
    width,
    scrollWidth: document.documentElement.scrollWidth,
    paper: luminance(behind(document.body)),
    heading: document.querySelector("h1").textContent,
    title: document.title,
    scripts: document.querySelectorAll("script, img, iframe, object, link").length,
    body: document.body.textContent,
  };
})()
