/** What the page says: labels, numbers and times in words. */

const MADE_FROM = {
  acoustic: "sound alone",
  visual: "the face alone",
  audiovisual: "sound and face",
};

/** What a prediction was made from. */
export const madeFrom = (modality) => MADE_FROM[modality] ?? "nothing to go by";

/** A label as it is shown: `very_happy` becomes `Very happy`. */
export const named = (label) => sentence(label.replaceAll("_", " "), "");

/** With a capital letter, and an end. */
export const sentence = (text, end = ".") =>
  text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : end);

/** Without the marks that a terminal would show as they are. */
export const plain = (text) => text.replaceAll("`", "");

/** A share as it is read: 0.716 is `72%`. */
export const percent = (share) => `${Math.round(100 * share)}%`;

/** A value of an attribute. */
export const decimal = (value) => value.toFixed(2);

/** A time as players show it, `1:05`; with tenths where asked, `1:05.2`. */
export function clock(time_s, tenths = false) {
  const whole = Math.max(0, tenths ? Math.round(10 * time_s) / 10 : Math.round(time_s));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const seconds = (whole % 60).toFixed(tenths ? 1 : 0).padStart(tenths ? 4 : 2, "0");
  return hours
    ? `${hours}:${String(minutes).padStart(2, "0")}:${seconds}`
    : `${minutes}:${seconds}`;
}

/** A length in words: `26 s`, `2 min 5 s`, `1 h 2 min`. */
export function lasting(duration_s) {
  if (duration_s < 10) return `${duration_s.toFixed(1)} s`;
  const whole = Math.round(duration_s);
  const [hours, minutes, seconds] = [
    Math.floor(whole / 3600),
    Math.floor(whole / 60) % 60,
    whole % 60,
  ];
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${seconds} s` : `${seconds} s`;
}

/** A count with its word: `1 person`, `2 people`. */
export const count = (number, one, more) => `${number} ${number === 1 ? one : more}`;

/** Bytes as people read them. */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  const step = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const value = bytes / 1000 ** step;
  return `${value < 10 && step ? value.toFixed(1) : Math.round(value)} ${units[step]}`;
}

/** What a prediction says in a few words; a dash where it says nothing. */
export function said(prediction) {
  if (!prediction || !prediction.modality) return "–";
  if (prediction.label === "unsure") return "Unsure";
  if (prediction.label) return `${named(prediction.label)} ${percent(prediction.confidence)}`;
  const values = Object.entries(prediction.attributes);
  return values.map(([name, value]) => `${named(name)} ${decimal(value)}`).join(", ") || "–";
}

/** Words one after the other: `a, b and c`. */
export const listed = (words) =>
  words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;

/** Categories or attributes with their values, the largest category first. */
export function ranked(prediction) {
  const categories = Object.entries(prediction?.probabilities ?? {});
  if (categories.length) return categories.sort((a, b) => b[1] - a[1]);
  return Object.entries(prediction?.attributes ?? {});
}

/** Where everything happens. */
export const machine = /^(localhost|127\..*|\[::1\])$/.test(location.hostname)
  ? "this machine"
  : "the machine that serves this page";
