/** The page: its views, the theme, and files dropped anywhere. */

import { aboutView } from "./about.js";
import { getModel } from "./api.js";
import { ClipView } from "./clip.js";
import { isDark, onTheme } from "./colours.js";
import { h, icon } from "./dom.js";
import { LiveView } from "./live.js";
import { machine, plain } from "./words.js";

const TITLES = { clip: "A clip", live: "Live", model: "About the model" };

const viewOf = (name) => document.getElementById(`view-${name}`);

/** Shows the view of the address; the first one without. */
function show(views, isFirst) {
  const asked = location.hash.slice(1);
  const name = asked in TITLES ? asked : "clip";
  for (const other of Object.keys(TITLES)) viewOf(other).hidden = other !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${TITLES[name]} · vavl`;
  if (name !== "live" && views.live?.isRunning) views.live.stop();
  if (isFirst) return;
  window.scrollTo(0, 0);
  document.getElementById("main").focus({ preventScroll: true });
}

function themeButton() {
  const button = document.getElementById("theme");
  const draw = () => {
    const other = isDark() ? "light" : "dark";
    button.replaceChildren(icon(isDark() ? "sun" : "moon"));
    button.setAttribute("aria-label", `Use the ${other} theme`);
    button.title = `Use the ${other} theme`;
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("theme", document.documentElement.dataset.theme);
    } catch {
      // It is kept until the page is left.
    }
    document.dispatchEvent(new Event("theme"));
  });
  onTheme(draw);
  draw();
}

/** Files may be dropped on the whole page. */
function takeDrops(clips) {
  const sign = document.getElementById("dropping");
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  let inside = 0;
  const count = (change) => (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    inside = Math.max(0, inside + change);
    sign.hidden = inside === 0;
  };
  addEventListener("dragenter", count(1));
  addEventListener("dragleave", count(-1));
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    inside = 0;
    sign.hidden = true;
    location.hash = "#clip";
    clips.add([...event.dataTransfer.files]);
  });
}

function fail(error) {
  const text = [error.message, error.remedy].filter(Boolean).join(" ");
  document
    .getElementById("main")
    .replaceChildren(
      h(
        "div",
        { class: "intro", role: "alert" },
        h("h1", {}, "The service does not answer as it should"),
        h("p", { class: "lead" }, text),
        h(
          "button",
          { type: "button", class: "main", onclick: () => location.reload() },
          "Try again",
        ),
      ),
    );
}

async function begin() {
  themeButton();
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address says which view is shown
    document.getElementById("main").focus();
  });
  try {
    const model = await getModel();
    document.getElementById("notice").textContent = plain(model.notice ?? "");
    document.getElementById("where").textContent = `Everything runs on ${machine}.`;
    const views = {
      clip: new ClipView(viewOf("clip"), model),
      live: new LiveView(viewOf("live"), model),
    };
    void aboutView(viewOf("model"), model);
    takeDrops(views.clip);
    addEventListener("pagehide", (event) => event.persisted || views.clip.leave());
    addEventListener("hashchange", () => show(views, false));
    show(views, true);
  } catch (error) {
    fail(error);
  }
}

void begin();
