// The body of a function for WebDriver: every text on display whose contrast to its ground is below `text`, and every
// colour of a service whose contrast to the surface is below `graphics`, as WCAG computes it; and how bright the page is,
// from 0 to 1.
// https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
const [text, graphics] = arguments;

const parse = (colour) => {
  const [red, green, blue, alpha = 1] = colour.match(/[\d.]+/g).map(Number);
  return { red, green, blue, alpha };
};
const over = (top, ground) => {
  const mix = (part) => top[part] * top.alpha + ground[part] * (1 - top.alpha);
  return { red: mix("red"), green: mix("green"), blue: mix("blue"), alpha: 1 };
};
const channel = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
const luminance = ({ red, green, blue }) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
const contrast = (one, other) => {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
};

/** The colour that an element stands on: those of its ancestors, one over the other. */
const ground = (element) => {
  const layers = [];
  for (let at = element; at !== null; at = at.parentElement) {
    const shape = at instanceof SVGElement && at.closest("a, g")?.querySelector(":scope > .box, :scope > .plate");
    const colour = shape ? getComputedStyle(shape).fill : getComputedStyle(at).backgroundColor;
    if (colour !== "none") layers.push(parse(colour));
    if (layers.at(-1)?.alpha === 1) break;
  }
  return layers.reduceRight((below, layer) => over(layer, below), { red: 255, green: 255, blue: 255, alpha: 1 });
};

const faint = [];
const check = (what, colour, below, least) => {
  const ratio = contrast(over(parse(colour), below), below);
  if (ratio < least) faint.push(`${what}: ${ratio.toFixed(2)}`);
};

const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let seen = 0;
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  const words = walker.currentNode.textContent.trim();
  if (words === "" || !element.checkVisibility() || element.closest(".sr-only, title, noscript, option")) continue;
  seen += 1;
  const style = getComputedStyle(element);
  check(
    `"${words}" in ${element.tagName}.${element.getAttribute("class")}`,
    element instanceof SVGElement ? style.fill : style.color,
    ground(element),
    text,
  );
}
for (const input of document.querySelectorAll("input, select")) {
  if (!input.checkVisibility()) continue;
  check(`the text of ${input.name}`, getComputedStyle(input).color, ground(input), text);
  check(`the placeholder of ${input.name}`, getComputedStyle(input, "::placeholder").color, ground(input), text);
}
const surface = parse(getComputedStyle(document.querySelector(".top")).backgroundColor);
for (let index = 0; index < 12; index += 1) {
  const probe = document.body.appendChild(document.createElement("span"));
  probe.className = `colour-${index} swatch`;
  check(`service colour ${index}`, getComputedStyle(probe).backgroundColor, surface, graphics);
  probe.remove();
}
return { seen, faint, brightness: luminance(ground(document.body)) };
