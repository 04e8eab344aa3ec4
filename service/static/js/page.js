// What every page does: times in the reader's own zone, the theme, and questions in dialogs.

const THEMES = ["system", "light", "dark"];

for (const time of document.querySelectorAll("time[datetime]")) tell(time);

export function tell(time) {
  const at = new Date(time.dateTime);
  time.title = time.dateTime;
  time.textContent = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

const theme = document.querySelector("[data-theme-switch]");
if (theme) {
  const root = document.documentElement;
  const show = () => {
    const name = root.dataset.theme ?? "system";
    theme.textContent = `Theme: ${name}`;
  };
  theme.hidden = false;
  show();
  theme.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "system") + 1) % THEMES.length];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      localStorage.setItem("theme", next);
    } catch {
      // as long as this page lasts, then
    }
    show();
    document.dispatchEvent(new Event("theme"));
  });
}

// Shows a dialog with a form, for what can't be undone; returns whether its first button was pressed.
export function asked(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}
