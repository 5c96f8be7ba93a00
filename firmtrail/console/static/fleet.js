// Scripts of the pages of devices and releases: work in parts that continues, and uploads.

// A form that continues work in parts is sent as soon as its page shows how far it is. Parts that
// only read take one place in the browser's history, so Back leads to where the person came from.
for (const form of document.querySelectorAll("form[data-continue]")) {
  setTimeout(() => (form.method === "get" ? replaceBy(form) : form.requestSubmit()), 50);
}

function replaceBy(form) {
  location.replace(`${form.action}?${new URLSearchParams(new FormData(form))}`);
}

// An upload shows its progress, and after a cut it offers to send the file again: the same bytes
// sent twice are one artifact.
for (const form of document.querySelectorAll("form[data-upload]")) {
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
}

function send(form) {
  const file = form.elements.file.files[0];
  if (!file) return;
  const name = form.elements.name.value || file.name;
  const bar = form.querySelector("progress");
  const said = form.querySelector("[role=status]");
  const button = form.querySelector("button");
  const request = new XMLHttpRequest();
  bar.hidden = false;
  button.disabled = true;
  request.upload.addEventListener("progress", (event) => {
    bar.max = event.total || file.size;
    bar.value = event.loaded;
    said.textContent = `${Math.floor((100 * event.loaded) / bar.max)} % sent`;
  });
  request.addEventListener("load", () => {
    button.disabled = false;
    if (request.status < 300) location.reload();
    else said.textContent = `Not added: ${detailOf(request)}`;
  });
  for (const kind of ["error", "abort", "timeout"]) {
    request.addEventListener(kind, () => {
      button.disabled = false;
      button.textContent = "Send again";
      said.textContent = "The connection broke before the file was complete. Nothing was added.";
    });
  }
  request.open("PUT", `${form.dataset.upload}/${encodeURIComponent(name)}`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.send(file);
}

function detailOf(request) {
  try {
    return JSON.parse(request.responseText).detail;
  } catch {
    return `the server answered ${request.status}`;
  }
}
