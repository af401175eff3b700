// The page works without this file, by its button. With it the results follow the sliders.
"use strict";
(() => {
  const form = document.getElementById("what-if");
  const PAUSE_MS = 40;
  let timer = 0;
  let asked = 0;

  function address() {
    const chosen = new URLSearchParams();
    for (const input of form.querySelectorAll("input[type=range]")) {
      if (input.value !== input.defaultValue || input.dataset.moved) chosen.set(input.name, input.value);
    }
    const text = chosen.toString();
    return text ? `${form.action.split("?")[0]}?${text}` : form.action.split("?")[0];
  }

  async function calculate() {
    const mine = ++asked;
    try {
      const answer = await fetch(address(), { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(10000) });
      if (answer.redirected) {
        location.assign("/login");
        return;
      }
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const next = page.getElementById("results");
      if (mine !== asked || next === null) return;
      document.getElementById("results").replaceChildren(...next.childNodes);
      const words = page.querySelectorAll("#what-if output");
      form.querySelectorAll("output").forEach((output, place) => { output.textContent = words[place]?.textContent ?? ""; });
      history.replaceState(null, "", address());
    } catch {
      // The button still works; the next move of a slider tries again.
    }
  }

  form.addEventListener("input", (event) => {
    event.target.dataset.moved = "yes";
    clearTimeout(timer);
    timer = setTimeout(calculate, PAUSE_MS);
  });
  for (const input of form.querySelectorAll("input[type=range]")) input.step = input.dataset.step;
})();
