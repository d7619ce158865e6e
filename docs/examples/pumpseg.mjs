// The bare model file from JavaScript, with onnxruntime-node or onnxruntime-web: no other package is needed.
// `session` is an ort.InferenceSession of the model file, `Tensor` is ort.Tensor.

const FILL = 127; // letterbox.fill of the file's metadata; its letterbox.placement is top-left

// The instances in a picture. rgb is a Uint8Array of width x height x 3 bytes, row by row.
// Boxes are [x1, y1, x2, y2] in pixels of the picture. A mask is M x M probabilities in its maskBox, which may reach beyond
// the picture (docs/model-file.md); maskPixels makes pixels of it.
export async function segment(session, Tensor, rgb, width, height, threshold = 0.5) {
  const [, inputHeight, inputWidth] = session.inputMetadata[0].shape;
  const { image, contentWidth, contentHeight } = letterbox(rgb, width, height, inputWidth, inputHeight);

  const found = await session.run({ image: new Tensor("uint8", image, [1, inputHeight, inputWidth, 3]) });
  const [scaleX, scaleY] = [contentWidth / width, contentHeight / height];
  const cells = found.masks.dims[1] * found.masks.dims[2];
  const instances = [];
  for (let i = 0; i < found.scores.data.length; i++) {
    if (found.scores.data[i] < threshold) continue;
    const [x1, y1, x2, y2] = found.boxes.data.slice(4 * i, 4 * i + 4);
    const maskBox = [x1 / scaleX, y1 / scaleY, x2 / scaleX, y2 / scaleY];
    instances.push({
      box: [maskBox[0], maskBox[1], Math.min(maskBox[2], width), Math.min(maskBox[3], height)],
      maskBox,
      score: found.scores.data[i],
      classId: Number(found.class_ids.data[i]),
      mask: found.masks.data.slice(cells * i, cells * (i + 1)),
    });
  }
  return instances;
}

// The mask of an instance as pixels of the picture: inside is 1 or 0 for each of width x height pixels from column x and
// row y on.
export function maskPixels({ mask, maskBox }, pictureWidth, pictureHeight) {
  const side = Math.sqrt(mask.length);
  const columns = cells(maskBox[0], maskBox[2], pictureWidth, side);
  const rows = cells(maskBox[1], maskBox[3], pictureHeight, side);
  const [width, height] = [columns.positions.length, rows.positions.length];
  const inside = new Uint8Array(width * height);
  rows.positions.forEach(([above, below, down], row) => {
    columns.positions.forEach(([left, right, across], column) => {
      const [a, b] = [mask[above * side + left], mask[above * side + right]];
      const [c, d] = [mask[below * side + left], mask[below * side + right]];
      const [upper, lower] = [a + (b - a) * across, c + (d - c) * across];
      inside[row * width + column] = upper + (lower - upper) * down >= 0.5 ? 1 : 0;
    });
  });
  return { x: columns.first, y: rows.first, width, height, inside };
}

// The pixels of a box along one axis, and for the middle of each the two cells it is between and how far it is from the first.
function cells(low, high, pictureSide, side) {
  let first = Math.max(Math.ceil(low - 0.5), 0);
  let end = Math.min(Math.ceil(high - 0.5), pictureSide);
  if (end <= first && high - low < 1 && low < pictureSide && high > 0) {
    // Thinner than a pixel: the one under its middle.
    first = Math.min(Math.floor((Math.max(low, 0) + Math.min(high, pictureSide)) / 2), pictureSide - 1);
    [end, low, high] = [first + 1, first, first + 1];
  }
  const positions = [];
  for (let pixel = first; pixel < end; pixel++) {
    const at = Math.min(Math.max(((pixel + 0.5 - low) * side) / (high - low) - 0.5, 0), side - 1);
    positions.push([Math.floor(at), Math.ceil(at), at - Math.floor(at)]);
  }
  return { first, positions };
}

// The picture scaled into the top-left corner of the model's input, byte for byte as in Python (docs/model-file.md).
export function letterbox(rgb, width, height, inputWidth, inputHeight) {
  const scale = Math.min(inputHeight / height, inputWidth / width);
  const contentWidth = Math.max(1, roundHalfToEven(width * scale));
  const contentHeight = Math.max(1, roundHalfToEven(height * scale));
  while (width >= 2 * contentWidth && height >= 2 * contentHeight) {
    rgb = width % 2 || height % 2 ? halvedOdd(rgb, width, height) : halved(rgb, width, height);
    [width, height] = [width >> 1, height >> 1];
  }
  const image = new Uint8Array(inputHeight * inputWidth * 3).fill(FILL);
  resizeInto(image, inputWidth, rgb, width, height, contentWidth, contentHeight);
  return { image, contentWidth, contentHeight };
}

// Each pixel the mean of the four under it.
function halved(rgb, width, height) {
  const [halfWidth, halfHeight] = [width >> 1, height >> 1];
  const result = new Uint8Array(halfWidth * halfHeight * 3);
  let to = 0;
  for (let y = 0; y < halfHeight; y++) {
    let [above, below] = [2 * y * width * 3, (2 * y + 1) * width * 3];
    for (let x = 0; x < halfWidth; x++, above += 3, below += 3) {
      for (let c = 0; c < 3; c++, above++, below++) {
        result[to++] = (rgb[above] + rgb[above + 3] + rgb[below] + rgb[below + 3] + 2) >> 2;
      }
    }
  }
  return result;
}

// The same for odd sides: the mean of the area under each pixel, in the single precision of OpenCV's INTER_AREA.
function halvedOdd(rgb, width, height) {
  const [halfWidth, halfHeight] = [width >> 1, height >> 1];
  const [columns, rows] = [shares(width), shares(height)];
  const result = new Uint8Array(halfWidth * halfHeight * 3);
  const sums = new Float32Array(halfWidth * 3);
  for (let y = 0; y < halfHeight; y++) {
    sums.fill(0);
    for (let row = 3 * y; row < 3 * y + 3; row++) {
      if (rows[row] === 0) continue;
      const line = rgb.subarray((row - y) * width * 3);
      for (let x = 0; x < halfWidth; x++) {
        const left = columns[3 * x];
        const middle = columns[3 * x + 1];
        const right = columns[3 * x + 2];
        for (let at = 6 * x; at < 6 * x + 3; at++) {
          let sum = Math.fround(Math.fround(line[at] * left) + Math.fround(line[at + 3] * middle));
          if (right > 0) sum = Math.fround(sum + Math.fround(line[at + 6] * right));
          sums[at - 3 * x] += Math.fround(sum * rows[row]);
        }
      }
    }
    for (let i = 0; i < sums.length; i++) result[y * sums.length + i] = roundHalfToEven(sums[i]);
  }
  return result;
}

// The weights of pixels 2i, 2i + 1 and 2i + 2 of a side in pixel i of the halved one: 1/2, 1/2 and 0 if the side is even.
function shares(side) {
  const half = side >> 1;
  const scale = 1 / (half / side);
  const result = new Float32Array(3 * half);
  for (let i = 0; i < half; i++) {
    const start = i * scale;
    for (let k = 0; k < 3; k++) {
      const covered = Math.min(2 * i + k + 1, start + scale, side) - Math.max(2 * i + k, start);
      result[3 * i + k] = covered > 1e-3 ? covered / Math.min(scale, side - start) : 0;
    }
  }
  return result;
}

// Bilinear, pixel centres aligned, in the integer arithmetic of OpenCV's INTER_LINEAR.
function resizeInto(target, targetStride, rgb, width, height, contentWidth, contentHeight) {
  const [columns, rows] = [samples(width, contentWidth), samples(height, contentHeight)];
  for (let y = 0; y < contentHeight; y++) {
    const [top, bottom] = [rows.first[y] * width * 3, rows.second[y] * width * 3];
    const [topWeight, bottomWeight] = [rows.firstWeight[y], rows.secondWeight[y]];
    for (let x = 0; x < contentWidth; x++) {
      const [left, right] = [columns.first[x] * 3, columns.second[x] * 3];
      const [leftWeight, rightWeight] = [columns.firstWeight[x], columns.secondWeight[x]];
      for (let c = 0; c < 3; c++) {
        const above = rgb[top + left + c] * leftWeight + rgb[top + right + c] * rightWeight;
        const below = rgb[bottom + left + c] * leftWeight + rgb[bottom + right + c] * rightWeight;
        const sum = (((above >> 4) * topWeight) >> 16) + (((below >> 4) * bottomWeight) >> 16);
        target[(y * targetStride + x) * 3 + c] = (sum + 2) >> 2;
      }
    }
  }
}

// For each pixel of a resized side: the two source pixels that it is between, and their weights in 2048ths.
function samples(from, to) {
  const scale = 1 / (to / from);
  const [first, second, firstWeight, secondWeight] = Array.from({ length: 4 }, () => new Int32Array(to));
  for (let i = 0; i < to; i++) {
    const position = Math.fround((i + 0.5) * scale - 0.5);
    const before = Math.floor(position);
    first[i] = Math.max(before, 0);
    second[i] = Math.min(before + 1, from - 1);
    firstWeight[i] = roundHalfToEven(2048 * Math.fround(1 - Math.fround(position - before)));
    secondWeight[i] = roundHalfToEven(2048 * Math.fround(position - before));
  }
  return { first, second, firstWeight, secondWeight };
}

function roundHalfToEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
