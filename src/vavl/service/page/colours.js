/** One colour for each emotion, the same everywhere, told apart with every colour vision. */

/**
 * On light and on dark paper; at least 3:1 against it. The first seven are at least 0.08 apart in
 * OKLab, also as people see them who lack one of the three cones (Machado et al. 2009).
 */
const COLOURS = {
  angry: ["#c9484c", "#e94400"],
  happy: ["#bd8425", "#e2a50b"],
  sad: ["#5e90d7", "#78a3f2"],
  neutral: ["#787f87", "#bdbec0"],
  fear: ["#8742d1", "#8d5bed"],
  disgust: ["#465502", "#baf898"],
  surprise: ["#9c2759", "#b95a93"],
  calm: ["#0d8a83", "#4fd1c5"],
  contempt: ["#7a4a2b", "#cf9a73"],
  excited: ["#d9661f", "#ff9a4d"],
};

const OTHER_WORDS = {
  anger: "angry",
  happiness: "happy",
  joy: "happy",
  sadness: "sad",
  fearful: "fear",
  surprised: "surprise",
  disgusted: "disgust",
  calmness: "calm",
  excitement: "excited",
};

/** In this order for names that are no emotion of the list: attributes, other categories. */
const FREE = [
  "excited",
  "calm",
  "fear",
  "sad",
  "happy",
  "surprise",
  "disgust",
  "contempt",
  "angry",
  "neutral",
];

const UNSURE = ["#6b7480", "#98a3ad"];

export const isDark = () =>
  document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;

/** Colours of the names of a model, by name, for light and dark paper. */
export class Palette {
  /** @param {string[]} names Categories and attributes, in the model's order. */
  constructor(names) {
    this.pairs = new Map([["unsure", UNSURE]]);
    const wellKnown = (name) => OTHER_WORDS[name.toLowerCase()] ?? name.toLowerCase();
    const free = FREE.filter((name) => !names.some((n) => wellKnown(n) === name));
    let more = 0;
    for (const name of names) {
      const known = COLOURS[wellKnown(name)];
      this.pairs.set(name, known ?? COLOURS[free.shift()] ?? turned(more++));
    }
  }

  /** On the paper that is shown now. */
  of(name) {
    return (this.pairs.get(name) ?? UNSURE)[isDark() ? 1 : 0];
  }

  /** Gives an element, whose style uses `--tint`, the colour of a name on either paper. */
  tint(element, name) {
    const [light, dark] = this.pairs.get(name) ?? UNSURE;
    element.style.setProperty("--tint", `light-dark(${light}, ${dark})`);
    return element;
  }
}

/** One more colour, as far around the wheel as possible from those before it. */
function turned(number) {
  const hue = (40 + 137.508 * number) % 360;
  return [`hsl(${hue} 55% 36%)`, `hsl(${hue} 70% 68%)`];
}

const probe = document.createElement("span");

/** A colour of the style sheet as a canvas takes it. */
export function resolved(name) {
  if (!probe.isConnected) {
    probe.hidden = true;
    document.body.append(probe);
  }
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

/** Black or white: what is read best on a colour. */
export function inkOn(colour) {
  probe.style.color = colour;
  if (!probe.isConnected) document.body.append(probe);
  const linear = getComputedStyle(probe)
    .color.match(/[\d.]+/g)
    .slice(0, 3)
    .map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  const light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return light > 0.18 ? "#10151a" : "#ffffff";
}

/** Calls back whenever the paper changes between light and dark. */
export function onTheme(redraw, signal) {
  document.addEventListener("theme", redraw, { signal });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw, { signal });
}
