// The playground: sends the conversation, writes the answer as it streams, and keeps the code below the conversation up to date.
// Text is only ever put in as text, so that markup in an answer stays text.
"use strict";
(() => {
  const form = document.getElementById("ask");
  if (!form) return;
  const log = document.getElementById("log");
  const words = form.dataset;
  const prompt = form.elements.prompt;
  const send = document.getElementById("send");
  const stop = document.getElementById("stop");
  const clear = document.getElementById("clear");
  let messages = [];
  let running = null;

  function element(name, className, text) {
    const made = document.createElement(name);
    made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function turn(who, className) {
    const article = element("article", `turn ${className}`);
    article.append(element("h3", "quiet small", who));
    const text = element("p", "said");
    article.append(text);
    log.append(article);
    return { article, text };
  }

  function number(name) {
    return Number(form.elements[name].value);
  }

  function values() {
    return {
      model: form.elements.model.value,
      system: form.elements.system.value.trim(),
      prompt: prompt.value.trim() || messages.findLast((item) => item.role === "user")?.content || words.example,
      max_tokens: number("max_tokens"),
      temperature: number("temperature"),
      top_p: number("top_p"),
    };
  }

  function code() {
    const now = values();
    for (const place of document.querySelectorAll("code[data-template]")) {
      let lines = place.dataset.template.split("\n");
      if (!now.system) lines = lines.filter((line) => !line.includes("@system@"));
      const shell = "shell" in place.dataset;
      place.textContent = lines.join("\n").replace(/@(model|system|prompt|max_tokens|temperature|top_p)@/g, (_, name) => {
        const literal = JSON.stringify(now[name]);
        return shell ? literal.replaceAll("'", "'\\''") : literal;
      });
    }
  }

  function busy(is) {
    send.disabled = is;
    stop.hidden = !is;
    log.setAttribute("aria-busy", String(is));
  }

  function show(item, state, began, meta) {
    if (item.error) {
      state.failed = item.error.message;
      return;
    }
    const piece = item.choices?.[0]?.delta?.content;
    if (piece) {
      state.first ||= performance.now() - began;
      state.text += piece;
      state.place.append(piece);
      log.scrollTop = log.scrollHeight;
    }
    if (item.usage) state.usage = item.usage;
    if ("cost" in item) Object.assign(state, { cost: item.cost, request: item.request_id });
    const parts = [];
    if (state.usage) parts.push(words.tokens.replace("{input}", state.usage.prompt_tokens).replace("{output}", state.usage.completion_tokens));
    if (state.first) parts.push(words.first.replace("{ms}", Math.round(state.first)));
    if (state.cost) parts.push(state.cost);
    if (state.request) parts.push(state.request);
    meta.textContent = parts.join(" · ");
  }

  async function read(answer, take) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data: ") && line.trim() !== "data: [DONE]") take(JSON.parse(line.slice(6)));
      }
    }
  }

  async function ask() {
    const now = values();
    const question = prompt.value.trim();
    if (!question || running) return;
    document.getElementById("nothing")?.remove();
    turn(words.you, "mine").text.textContent = question;
    const { article, text } = turn(now.model, "theirs");
    const meta = element("p", "quiet small meta", words.waiting);
    article.append(meta);
    log.scrollTop = log.scrollHeight;
    prompt.value = "";
    const sent = [...messages, { role: "user", content: question }];
    const state = { place: text, text: "", first: 0, usage: null, cost: "", request: "", failed: "", stopped: false };
    const began = performance.now();
    running = new AbortController();
    busy(true);
    try {
      const answer = await fetch(form.action, {
        method: "POST",
        signal: running.signal,
        headers: { "Content-Type": "application/json", "X-Form-Token": form.elements.form_token.value },
        body: JSON.stringify({
          model: now.model,
          messages: now.system ? [{ role: "system", content: now.system }, ...sent] : sent,
          max_tokens: now.max_tokens,
          temperature: now.temperature,
          top_p: now.top_p,
        }),
      });
      if (answer.ok) await read(answer, (item) => show(item, state, began, meta));
      else state.failed = (await answer.json()).error.message;
    } catch (error) {
      if (error.name === "AbortError") state.stopped = true;
      else state.failed = words.lost;
    }
    running = null;
    busy(false);
    if (meta.textContent === words.waiting) meta.textContent = "";
    if (state.text) messages = [...sent, { role: "assistant", content: state.text }];
    else prompt.value = question;
    if (state.stopped) article.append(element("p", "quiet", words.stopped));
    if (state.failed) article.append(element("p", "alert critical", state.failed));
    log.scrollTop = log.scrollHeight;
    code();
    prompt.focus();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  form.addEventListener("input", code);
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  stop.addEventListener("click", () => running?.abort());
  clear.addEventListener("click", () => {
    running?.abort();
    messages = [];
    log.replaceChildren();
    code();
    prompt.focus();
  });
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = words.copied;
    });
    button.hidden = !navigator.clipboard;
  }
  busy(false);
  code();
})();
