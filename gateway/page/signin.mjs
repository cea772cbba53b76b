// Owns signing in: where the gateway wants tokens, the page is shown once one was given. The token goes to the gateway and
// comes back as a cookie; no script keeps it.
const url = "/api/v1/session";

/** Resolves when what the page shows may be read: at once where nobody has to sign in. */
export async function signedIn(dialog, bar) {
  for (;;) {
    const session = await readSession();
    if (session === undefined) await new Promise((resolve) => setTimeout(resolve, 2_000));
    else if (!session.login || session.caller !== null) return showCaller(bar, session);
    else await askToken(dialog);
  }
}

async function readSession() {
  try {
    const answer = await fetch(url);
    return answer.ok ? await answer.json() : undefined;
  } catch {
    return undefined;
  }
}

/** Resolves when a token was taken. */
function askToken(dialog) {
  const form = dialog.querySelector("form");
  const [field] = form.elements;
  const wrong = dialog.querySelector("[role=alert]");
  wrong.textContent = "";
  dialog.showModal();
  field.focus();
  const over = new AbortController();
  const listen = (to, what, handle) => to.addEventListener(what, handle, { signal: over.signal });
  return new Promise((resolve) => {
    listen(form, "submit", async (event) => {
      event.preventDefault();
      const reason = await send(field.value.trim());
      field.value = "";
      wrong.textContent = reason ?? "";
      if (reason !== undefined) return field.focus();
      over.abort();
      dialog.close();
      return resolve();
    });
    // There is nothing behind it to go back to.
    listen(dialog, "cancel", (event) => event.preventDefault());
  });
}

async function send(token) {
  try {
    const answer = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token }),
    });
    if (answer.ok) return undefined;
    return answer.status === 401 ? "The gateway knows no such token." : `The gateway refused it (${answer.status}).`;
  } catch {
    return "The gateway does not answer.";
  }
}

function showCaller(bar, { login, caller }) {
  bar.hidden = !login;
  if (!login) return;
  bar.querySelector("span").textContent = `${caller.name}, ${caller.role === "write" ? "may change" : "may look"}`;
  const signOut = async () => {
    await fetch(url, { method: "DELETE" });
    location.reload();
  };
  bar.querySelector("button").addEventListener("click", () => void signOut(), { once: true });
}
