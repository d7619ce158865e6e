// Boxes of a picture on the command line: one JSON line per instance.
//
//   npm install --ignore-scripts onnxruntime-node
//   node segment.mjs fast.onnx photo.ppm      (a binary PPM: convert photo.jpg photo.ppm)

import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-node";
import { segment } from "./pumpseg.mjs";

const [model, photo] = process.argv.slice(2);
if (!photo) {
  console.error("usage: node segment.mjs MODEL.onnx PHOTO.ppm");
  process.exit(2);
}
const file = readFileSync(photo);
const header = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(file.subarray(0, 64).toString("latin1"));
if (!header) {
  console.error(`${photo} is not a binary PPM with 8 bits per channel`);
  process.exit(2);
}
const [width, height] = [Number(header[1]), Number(header[2])];
const rgb = file.subarray(header[0].length, header[0].length + width * height * 3);

// Errors only: the file's optional inputs are worth a warning to ONNX Runtime.
const session = await ort.InferenceSession.create(model, { logSeverityLevel: 3 });
for (const { box, score, classId } of await segment(session, ort.Tensor, rgb, width, height)) {
  console.log(JSON.stringify({ box, score, classId }));
}
