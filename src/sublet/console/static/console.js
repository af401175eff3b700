// Everything on the page works without this file. With it the page renews itself in place, countdowns run by the second,
// and a chart's legend shows the figures under the pointer.
"use strict";
(() => {
  const stamp = document.getElementById("stamp");
  const stampText = stamp.textContent;
  let gatheredAt = performance.now();

  function duration(seconds) {
    const left = Math.floor(seconds);
    if (left <= 0) return "over";
    const s = left % 60, m = Math.floor(left / 60) % 60, h = Math.floor(left / 3600) % 24, d = Math.floor(left / 86400);
    const two = (n) => String(n).padStart(2, "0");
    if (d) return `${d.toLocaleString("en")} d ${two(h)} h`;
    if (h) return `${h} h ${two(m)} min`;
    return m ? `${m} min ${two(s)} s` : `${s} s`;
  }

  function tick() {
    const passed = (performance.now() - gatheredAt) / 1000;
    for (const node of document.querySelectorAll("[data-left-s]")) {
      node.textContent = duration(Number(node.dataset.leftS) - passed);
    }
  }

  // Renewing replaces the page's body, so it waits for a while for somebody who reads off a chart or selects text.
  const PATIENCE_MS = 30000;

  function typed(field) {
    if (field.matches("select")) return [...field.options].some((option) => option.selected !== option.defaultSelected && option.index > 0);
    return field.type === "checkbox" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue;
  }

  function busy() {
    if (document.hidden) return true;
    // What somebody has typed and not sent stays, however long it takes.
    if (document.getElementById("live").dataset.hold) return true;
    if ([...document.querySelectorAll("main input, main textarea, main select")].some(typed)) return true;
    if (performance.now() - gatheredAt > PATIENCE_MS) return false;
    const selection = document.getSelection();
    return document.querySelector(".pointer.shown") !== null || (selection !== null && !selection.isCollapsed);
  }

  async function renew() {
    const live = document.getElementById("live");
    if (!busy()) {
      try {
        const answer = await fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(10000) });
        if (answer.redirected) {
          location.assign("/login");
          return;
        }
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const next = page.getElementById("live");
        if (next === null) complain(live, page.querySelector("[role=alert]")?.textContent ?? `it answered with status ${answer.status}`);
        else if (!busy()) put(live, next);
      } catch {
        complain(live, "the control plane does not answer");
      }
    }
    setTimeout(renew, 1000 * Number(live.dataset.refreshS));
  }

  function complain(live, reason) {
    const words = `Not updating since ${live.dataset.stamp}: ${reason}`;
    if (stamp.textContent === words) return;
    stamp.classList.add("stale");
    stamp.setAttribute("role", "alert");
    stamp.textContent = words;
  }

  // How the same element is found on the renewed page, so that who moves by keyboard stays where they are.
  function nameOf(node) {
    if (node.id) return `#${CSS.escape(node.id)}`;
    if (node.matches("a[href]")) return `main a[href="${CSS.escape(node.getAttribute("href"))}"]`;
    const holder = node.closest("details[id]");
    return holder ? `#${CSS.escape(holder.id)} > summary` : null;
  }

  function put(live, next) {
    const open = [...live.querySelectorAll("details[open]")].map((node) => node.id);
    const scrolled = [...live.querySelectorAll(".scroll")].map((node) => [node.id, node.scrollTop]);
    const focused = live.contains(document.activeElement) ? nameOf(document.activeElement) : null;
    live.replaceWith(document.adoptNode(next));
    gatheredAt = performance.now();
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    for (const [id, top] of scrolled) document.getElementById(id)?.scrollTo(0, top);
    if (focused) document.querySelector(focused)?.focus({ preventScroll: true });
    stamp.classList.remove("stale");
    stamp.removeAttribute("role");
    stamp.textContent = next.dataset.stamp;
  }

  const clock = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

  function columnAt(readout, at) {
    return readout.columns.find((column) => column[0] <= at && at < column[1]);
  }

  function show(chart, share) {
    const readout = (chart.readout ??= JSON.parse(chart.dataset.readout));
    const at = readout.from + share * (readout.to - readout.from);
    const column = columnAt(readout, at);
    const pointer = chart.querySelector(".pointer");
    for (const end of ["x1", "x2"]) pointer.setAttribute(end, `${100 * share}%`);
    pointer.classList.add("shown");
    const label = chart.querySelector(".pointer-label");
    label.textContent = clock.format(new Date(at * 1000)).replace(",", "");
    label.setAttribute("x", `${100 * share}%`);
    label.setAttribute("text-anchor", share < 0.15 ? "start" : share > 0.85 ? "end" : "middle");
    chart.classList.add("pointed");
    readout.names.forEach((name, index) => {
      const node = chart.querySelector(`[data-value="${name}"]`);
      if (!node) return;
      node.dataset.now ??= node.textContent;
      const value = column?.[3 + index] ?? null;
      node.textContent = value === null ? "—" : value.toLocaleString("en");
    });
  }

  function rest(chart) {
    chart.querySelector(".pointer").classList.remove("shown");
    chart.classList.remove("pointed");
    for (const node of chart.querySelectorAll("[data-now]")) node.textContent = node.dataset.now;
  }

  document.addEventListener("pointermove", (event) => {
    const plot = event.target instanceof Element ? event.target.closest(".plot") : null;
    for (const shown of document.querySelectorAll(".pointer.shown")) {
      if (shown.closest(".plot") !== plot) rest(shown.closest("[data-chart]"));
    }
    if (!plot) return;
    const box = plot.firstElementChild.getBoundingClientRect();
    show(plot.closest("[data-chart]"), Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  });
  document.documentElement.addEventListener("pointerleave", () => {
    for (const shown of document.querySelectorAll(".pointer.shown")) rest(shown.closest("[data-chart]"));
  });

  stamp.textContent = stampText.trim();
  setInterval(tick, 1000);
  setTimeout(renew, 1000 * Number(document.getElementById("live").dataset.refreshS));
})();
