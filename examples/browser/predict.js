// Runs an exported model on a dropped image and draws its objects one after the other.
// ?model=NAME opens a model of the package, ?model=PATH.onnx a file with its JSON file beside it, relative to this page.
// Without it, the first of DEFAULTS that the package has is opened. Images never leave the page.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";

const ZOO = "../../rsis_tf/zoo/models"; // the page is served with the repository, or a copy of that folder
const DEFAULTS = ["nuclei", "leaves", "shapes"];
const LARGEST_SIDE = 2048; // larger images are scaled down: each object keeps a mask of one byte per pixel
const PAUSE = 650; // milliseconds from one object to the next

/** The address of the model that ?model=… asks for, or of the first of DEFAULTS that there is. */
async function modelAddress(asked) {
  if (asked?.endsWith(".onnx")) return new URL(asked, location).href;
  const names = asked ? [asked] : DEFAULTS;
  for (const name of names) {
    const url = new URL(`${ZOO}/${encodeURIComponent(name)}/${encodeURIComponent(name)}.onnx`, location).href;
    if ((await fetch(`${url}.json`, { method: "HEAD" })).ok) return url;
  }
  throw new Error(`expected the name of a model in ${ZOO}, or the path of an .onnx file. Received: ${names.join(", ")}`);
}

/** Opens NAME.onnx and the JSON file beside it: JavaScript cannot read the metadata in the model. */
export async function openModel(url) {
  const [answer, session] = await Promise.all([
    fetch(`${url}.json`),
    ort.InferenceSession.create(url, { executionProviders: ["wasm"] }),
  ]);
  if (!answer.ok) throw new Error(`expected ${url}.json beside the model. Received: status ${answer.status}`);
  const facts = await answer.json();
  facts.aspect ??= "stretch"; // files of earlier versions
  if (!["stretch", "keep"].includes(facts.aspect)) {
    throw new Error(`expected the aspect stretch or keep. Received: ${facts.aspect} in ${url}.json`);
  }
  if (facts.input.shape[0] > 1) {
    throw new Error(`expected a model for one image. Received: a batch of ${facts.input.shape[0]}`);
  }
  return { session, facts };
}

/** {width, height, data: RGBA} → {instances, end}: what rsis_tf.runtime.Predictor returns, and the step that ended it. */
export async function predict({ session, facts }, image) {
  const [height, width] = facts.image_size;
  const rgb = new Float32Array(image.width * image.height * 3);
  for (let i = 0; i < image.width * image.height; i++) {
    for (let c = 0; c < 3; c++) rgb[3 * i + c] = image.data[4 * i + c];
  }
  const source = { height: image.height, width: image.width, channels: 3, data: rgb };
  const rectangle = facts.aspect === "keep" ? letterbox(source, height, width) : { top: 0, left: 0, height, width };
  const scaled = padded(resize(source, rectangle.height, rectangle.width, true), rectangle, height, width);
  const values = facts.input.dtype === "uint8" ? Uint8Array.from(scaled.data) : scaled.data;
  const input = new ort.Tensor(facts.input.dtype, values, [1, height, width, 3]);
  const { masks, classes, stop } = await session.run({ image: input });
  const [, steps, h, w] = masks.dims;
  const size = classes.dims[2];
  const instances = [];
  for (let step = 0; step < steps; step++) {
    const objectness = stop.data[step];
    if (!(objectness >= facts.stop_threshold)) return { instances, end: { step, objectness } };
    const frame = { height: h, width: w, channels: 1, data: masks.data.subarray(step * h * w, (step + 1) * h * w) };
    const small = facts.aspect === "keep" ? cut(frame, rectangle) : frame;
    const large = resize(small, image.height, image.width, false).data;
    const mask = Uint8Array.from(large, (value) => (value >= facts.mask_threshold ? 1 : 0));
    const pixels = mask.reduce((sum, value) => sum + value, 0);
    if (!pixels) continue;
    const probs = classes.data.subarray(step * size, (step + 1) * size);
    const best = probs.reduce((top, value, k) => (k > 1 && value > probs[top] ? k : top), 1); // 0 is background
    const className = facts.class_names[best] ?? `class ${best}`;
    const score = probs[best] * objectness * maskScore(small.data);
    instances.push({ step, classId: best, className, score, objectness, pixels, mask });
  }
  return { instances, end: null };
}

/** The mean of a mask's probabilities, weighted by themselves. */
function maskScore(probabilities) {
  let [sum, squares] = [0, 0];
  for (const value of probabilities) {
    sum += value;
    squares += value * value;
  }
  return sum > 0 ? squares / sum : 0;
}

/** Centres an undistorted image in a frame, as large as it fits, with the whole numbers of the Python runtime. */
function letterbox(source, height, width) {
  const inner = { height, width };
  if (source.height * width >= source.width * height) {
    inner.width = Math.max(Math.floor((2 * source.width * height + source.height) / (2 * source.height)), 1);
  } else {
    inner.height = Math.max(Math.floor((2 * source.height * width + source.width) / (2 * source.width)), 1);
  }
  return { ...inner, top: Math.floor((height - inner.height) / 2), left: Math.floor((width - inner.width) / 2) };
}

/** Copies an image to its rectangle in a black frame. */
function padded(source, { top, left }, height, width) {
  const { channels } = source;
  if (source.height === height && source.width === width) return source;
  const data = new Float32Array(height * width * channels);
  const stride = source.width * channels;
  for (let y = 0; y < source.height; y++) {
    data.set(source.data.subarray(y * stride, (y + 1) * stride), ((top + y) * width + left) * channels);
  }
  return { height, width, channels, data };
}

/** Takes a rectangle of one channel out of its frame. */
function cut(frame, { top, left, height, width }) {
  const data = new Float32Array(height * width);
  for (let y = 0; y < height; y++) {
    const start = (top + y) * frame.width + left;
    data.set(frame.data.subarray(start, start + width), y * width);
  }
  return { height, width, channels: 1, data };
}

/** Antialiased triangle filter, columns then rows; with `whole`, values are rounded to 0..255 after each. */
function resize(source, height, width, whole) {
  const { channels } = source;
  const finish = whole ? (value) => Math.min(Math.max(Math.floor(value + 0.5), 0), 255) : (value) => value;
  let { data } = source;
  if (width !== source.width) {
    const wide = new Float32Array(source.height * width * channels);
    triangleWindows(source.width, width).forEach(([start, weights], x) => {
      for (let y = 0; y < source.height; y++) {
        for (let c = 0; c < channels; c++) {
          let sum = 0;
          const row = (y * source.width + start) * channels + c;
          for (let k = 0; k < weights.length; k++) sum += weights[k] * data[row + k * channels];
          wide[(y * width + x) * channels + c] = finish(sum);
        }
      }
    });
    data = wide;
  }
  if (height === source.height) return { height, width, channels, data };
  const stride = width * channels;
  const result = new Float32Array(height * stride);
  triangleWindows(source.height, height).forEach(([start, weights], y) => {
    for (let i = 0; i < stride; i++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * data[(start + k) * stride + i];
      result[y * stride + i] = finish(sum);
    }
  });
  return { height, width, channels, data: result };
}

function triangleWindows(from, to) {
  const scale = from / to;
  const reach = Math.max(scale, 1);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const end = Math.min(Math.trunc(centre + reach + 0.5), from);
    const weights = [];
    for (let k = start; k < end; k++) weights.push(Math.max(1 - Math.abs((k + 0.5 - centre) / reach), 0));
    const sum = weights.reduce((a, b) => a + b, 0);
    return [start, weights.map((weight) => weight / sum)];
  });
}

// ---- The page ----

const at = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const view = { image: null, instances: [], layers: [], timer: 0, turn: 0 };

/** Far apart for neighbours in the sequence: the golden angle around the circle of hues. */
const colour = (i) => `hsl(${(205 + i * 137.508) % 360} 78% ${i % 2 ? 44 : 54}%)`;

function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

async function readImage(blob) {
  const bitmap = await createImageBitmap(blob, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  const factor = Math.min(1, LARGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * factor));
  const height = Math.max(1, Math.round(bitmap.height * factor));
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** The layer of an object over the image: a tint, and a line along its edge. */
function paint({ mask }, i, { width, height }) {
  const layer = new OffscreenCanvas(width, height);
  const context = layer.getContext("2d");
  context.fillStyle = colour(i);
  context.fillRect(0, 0, 1, 1);
  const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
  const image = context.createImageData(width, height);
  const thick = Math.max(1, Math.round(Math.max(width, height) / 500));
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && mask[y * width + x];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!mask[y * width + x]) continue;
      const edge = !(inside(x - thick, y) && inside(x + thick, y) && inside(x, y - thick) && inside(x, y + thick));
      image.data.set([red, green, blue, edge ? 255 : 105], 4 * (y * width + x));
    }
  }
  context.putImageData(image, 0, 0);
  return layer;
}

function draw(shown, lit = -1) {
  const context = at("canvas").getContext("2d");
  context.putImageData(view.image, 0, 0);
  view.layers.forEach((layer, i) => {
    context.globalAlpha = lit >= 0 && lit !== i ? 0.15 : 1;
    if (i < shown || i === lit) context.drawImage(layer, 0, 0);
  });
  context.globalAlpha = 1;
  at("slider").value = shown;
  at("count").textContent = `${shown} of ${view.instances.length}`;
  [...at("legend").children].forEach((row, i) => row.classList.toggle("later", i >= shown));
}

function legendRow(instance, i) {
  const make = (tag, name, text = "") => Object.assign(document.createElement(tag), { className: name, textContent: text });
  const row = make("li", "");
  const bar = make("span", "bar");
  const fill = bar.appendChild(make("i", ""));
  fill.style.cssText = `width: ${100 * instance.score}%; background: ${colour(i)}`;
  const chip = make("span", "chip", i + 1);
  chip.style.background = colour(i);
  row.append(chip, make("span", "name", instance.className), make("span", "score", instance.score.toFixed(2)), bar);
  row.tabIndex = 0;
  for (const event of ["pointerenter", "focus"]) row.addEventListener(event, () => draw(+at("slider").value, i));
  for (const event of ["pointerleave", "blur"]) row.addEventListener(event, () => draw(+at("slider").value));
  return row;
}

function play() {
  clearInterval(view.timer);
  let shown = 0;
  draw(shown);
  view.timer = setInterval(() => {
    if (shown < view.instances.length) draw(++shown);
    else clearInterval(view.timer);
  }, PAUSE);
}

async function show(blob) {
  const turn = ++view.turn; // an image dropped later replaces this one
  clearInterval(view.timer);
  say("Predicting …");
  try {
    const image = await readImage(blob).catch(() => {
      throw new Error(`expected an image. Received: ${blob.name ?? "something else"}`);
    });
    const start = performance.now();
    const { instances, end } = await predict(await model, image);
    if (turn !== view.turn) return;
    const seconds = ((performance.now() - start) / 1000).toFixed(2);
    Object.assign(view, { image, instances, layers: instances.map((instance, i) => paint(instance, i, image)) });
    Object.assign(at("canvas"), { width: image.width, height: image.height, hidden: false });
    at("invitation").hidden = true;
    at("controls").hidden = false;
    at("slider").max = instances.length;
    at("legend").replaceChildren(...instances.map(legendRow));
    const ended = end ? `ended at step ${end.step + 1} (objectness ${end.objectness.toFixed(2)})` : "took all its steps";
    const objects = `${instances.length} object${instances.length === 1 ? "" : "s"}`;
    say(`${objects} in ${seconds} s; the sequence ${ended}.`);
    if (still.matches) draw(instances.length);
    else play();
  } catch (error) {
    if (turn === view.turn) say(error.message, true);
  }
}

const model = modelAddress(new URLSearchParams(location.search).get("model")).then(async (url) => {
  view.model = url;
  return openModel(url);
});
model.then(
  () => view.turn || say("Ready for an image."),
  (error) => say(`The model does not open: ${error.message}`, true),
);
at("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
at("drop").addEventListener("dragleave", () => at("drop").classList.remove("over"));
at("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  if (event.dataTransfer.files.length) show(event.dataTransfer.files[0]);
});
at("file").addEventListener("change", () => at("file").files.length && show(at("file").files[0]));
at("play").addEventListener("click", play);
at("slider").addEventListener("input", () => {
  clearInterval(view.timer);
  draw(+at("slider").value);
});
window.view = view; // for the console, and for tests
