// The bare model file from JavaScript, with onnxruntime-node or onnxruntime-web: no other package is needed.
// `session` is an ort.InferenceSession of the model file, `Tensor` is ort.Tensor.

const FILL = 127; // letterbox.fill of the file's metadata; its letterbox.placement is top-left

// What the model finds in a picture: rgb is a Uint8Array of width x height x 3 bytes, row by row.
// Boxes are [x1, y1, x2, y2] in pixels of the picture, masks M x M probabilities inside their box (docs/model-file.md).
export async function segment(session, Tensor, rgb, width, height, score = 0.5) {
  const [, inputHeight, inputWidth] = session.inputMetadata[0].shape;
  const scale = Math.min(inputHeight / height, inputWidth / width);
  const contentWidth = Math.round(width * scale);
  const contentHeight = Math.round(height * scale);
  const image = new Uint8Array(inputHeight * inputWidth * 3).fill(FILL);
  resizeInto(image, inputWidth, rgb, width, height, contentWidth, contentHeight);

  const found = await session.run({ image: new Tensor("uint8", image, [1, inputHeight, inputWidth, 3]) });
  const [scaleX, scaleY] = [contentWidth / width, contentHeight / height];
  const cells = found.masks.dims[1] * found.masks.dims[2];
  const instances = [];
  for (let i = 0; i < found.scores.data.length; i++) {
    if (found.scores.data[i] < score) continue;
    const [x1, y1, x2, y2] = found.boxes.data.slice(4 * i, 4 * i + 4);
    instances.push({
      box: [x1 / scaleX, y1 / scaleY, Math.min(x2 / scaleX, width), Math.min(y2 / scaleY, height)],
      score: found.scores.data[i],
      classId: Number(found.class_ids.data[i]),
      mask: found.masks.data.slice(cells * i, cells * (i + 1)),
    });
  }
  return instances;
}

// Bilinear, pixel middles on pixel middles. For a picture more than twice as large as the input, scale it down by
// pixel area beforehand, as a canvas does with imageSmoothingQuality = "high".
function resizeInto(target, targetStride, rgb, width, height, contentWidth, contentHeight) {
  const columns = samples(width, contentWidth);
  const rows = samples(height, contentHeight);
  for (let y = 0; y < contentHeight; y++) {
    const [top, bottom, down] = rows[y];
    for (let x = 0; x < contentWidth; x++) {
      const [left, right, across] = columns[x];
      for (let c = 0; c < 3; c++) {
        const at = (row, column) => rgb[(row * width + column) * 3 + c];
        const above = at(top, left) * (1 - across) + at(top, right) * across;
        const below = at(bottom, left) * (1 - across) + at(bottom, right) * across;
        target[(y * targetStride + x) * 3 + c] = Math.round(above * (1 - down) + below * down);
      }
    }
  }
}

function samples(from, to) {
  return Array.from({ length: to }, (_, i) => {
    const position = Math.max(0, ((i + 0.5) * from) / to - 0.5);
    const first = Math.min(Math.floor(position), from - 1);
    return [first, Math.min(first + 1, from - 1), position - first];
  });
}
