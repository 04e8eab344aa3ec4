// Questions before what can't be undone.

// Shows a dialog with a form, and returns whether its first button was pressed.
export function asked(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}
