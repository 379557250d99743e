// Where the next message is written: its text, its images, and the keys that send and stop.

import { byId, el } from "./dom.js";
import { bytes } from "./format.js";

const LIMIT_BYTES = 20_000_000;
const images = []; // { name, url (data:), data (base64) }

/** Take what was written: `{ content, images }`; null when nothing was. */
export function take() {
  const content = byId("message").value;
  if (!content.trim() && !images.length) return null;
  const message = { role: "user", content };
  if (images.length) message.images = images.map((each) => each.data);
  byId("message").value = "";
  images.length = 0;
  showThumbs();
  return message;
}

/** Put a message back, which could not be sent. */
export function giveBack(message) {
  if (!byId("message").value) byId("message").value = message.content;
  for (const [index, data] of (message.images ?? []).entries()) {
    images.push({ name: `Image ${index + 1}`, url: `data:image/*;base64,${data}`, data });
  }
  showThumbs();
}

function showThumbs() {
  byId("thumbs").replaceChildren(...images.map((image) => el("li", {},
    el("img", { src: image.url, alt: image.name }),
    el("button", {
      type: "button", "aria-label": `Remove ${image.name}`,
      click: () => {
        images.splice(images.indexOf(image), 1);
        showThumbs();
        byId("message").focus();
      },
    }, "×"))));
}

async function add(files) {
  for (const file of files) {
    if (!file.type.startsWith("image/")) continue;
    if (file.size > LIMIT_BYTES) {
      byId("announcer").textContent = `${file.name} has ${bytes(file.size)}: too large.`;
      continue;
    }
    const url = await new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(file);
    });
    images.push({ name: file.name, url, data: url.slice(url.indexOf(",") + 1) });
  }
  showThumbs();
}

export function start({ send, stop }) {
  const message = byId("message");
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  message.addEventListener("keydown", (event) => {
    // An input method's Enter chooses a word.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  message.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length && !byId("attach").hidden) add(event.clipboardData.files);
  });
  byId("playground").addEventListener("keydown", (event) => event.key === "Escape" && stop());
  byId("images").addEventListener("change", async (event) => {
    await add(event.target.files);
    event.target.value = "";
  });
}
