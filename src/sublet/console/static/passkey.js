// A form that asks the browser for a passkey: its data-options are WebAuthn's options as JSON, and what the passkey signed goes
// into the field `credential`. Everything else about the form is an ordinary form.
"use strict";
(() => {
  for (const form of document.querySelectorAll("form[data-options]")) {
    const complaint = form.querySelector("[data-complaint]");
    const known = window.PublicKeyCredential?.parseRequestOptionsFromJSON;
    if (!known) {
      complaint.textContent = form.dataset.unsupported;
      complaint.hidden = false;
      continue;
    }
    form.addEventListener("submit", async (event) => {
      if (form.elements.credential.value) return;
      event.preventDefault();
      complaint.hidden = true;
      try {
        const options = JSON.parse(form.dataset.options);
        const made = options.user
          ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
          : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
        form.elements.credential.value = JSON.stringify(made.toJSON());
        form.requestSubmit();
      } catch (error) {
        complaint.textContent = error.name === "InvalidStateError" ? form.dataset.already : form.dataset.failed;
        complaint.hidden = false;
      }
    });
  }
})();
