// The bare model file from C++: boxes of a photo, with ONNX Runtime and OpenCV.
//
//   apt install g++ pkg-config libopencv-dev libonnxruntime-dev
//   g++ -std=c++17 -O2 segment.cpp -o segment $(pkg-config --cflags --libs opencv4 libonnxruntime)
//   ./segment fast.onnx photo.jpg
//
// libonnxruntime-dev is in Debian 13. Elsewhere, unpack a release of ONNX Runtime and give its folders instead of its
// name: -I$ORT/include -L$ORT/lib -Wl,-rpath,$ORT/lib -lonnxruntime

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <exception>
#include <iostream>
#include <vector>

#include <onnxruntime_cxx_api.h>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

constexpr float kThreshold = 0.5f;
constexpr double kFill = 127;  // letterbox.fill of the file's metadata; its letterbox.placement is top-left

// Scales the photo into the top-left corner of the model's input, as RGB. Returns its size there (docs/model-file.md).
cv::Size letterbox(const cv::Mat& photo, cv::Mat& image) {
  const double scale = std::min(static_cast<double>(image.rows) / photo.rows,
                                static_cast<double>(image.cols) / photo.cols);
  const cv::Size content(std::max(1, static_cast<int>(std::nearbyint(photo.cols * scale))),
                         std::max(1, static_cast<int>(std::nearbyint(photo.rows * scale))));
  cv::Mat scaled = photo;
  while (scaled.cols >= 2 * content.width && scaled.rows >= 2 * content.height) {
    cv::Mat half;
    cv::resize(scaled, half, cv::Size(scaled.cols / 2, scaled.rows / 2), 0, 0, cv::INTER_AREA);
    scaled = half;
  }
  image.setTo(cv::Scalar::all(kFill));
  cv::resize(scaled, image(cv::Rect(cv::Point(0, 0), content)), content, 0, 0, cv::INTER_LINEAR);
  cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
  return content;
}

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: segment MODEL.onnx PHOTO\n";
    return 2;
  }
  const cv::Mat photo = cv::imread(argv[2]);
  if (photo.empty()) {
    std::cerr << argv[2] << " cannot be read as an image\n";
    return 2;
  }

  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "pumpseg");
  Ort::Session session(env, argv[1], Ort::SessionOptions{});
  const std::vector<std::int64_t> shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
  cv::Mat image(static_cast<int>(shape[1]), static_cast<int>(shape[2]), CV_8UC3);
  const cv::Size content = letterbox(photo, image);

  const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  Ort::Value input = Ort::Value::CreateTensor<std::uint8_t>(memory, image.data, image.total() * image.elemSize(),
                                                            shape.data(), shape.size());
  const std::array<const char*, 1> inputs{"image"};
  const std::array<const char*, 4> outputs{"boxes", "scores", "class_ids", "masks"};
  const std::vector<Ort::Value> found =
      session.Run(Ort::RunOptions{}, inputs.data(), &input, inputs.size(), outputs.data(), outputs.size());

  const float* boxes = found[0].GetTensorData<float>();
  const float* scores = found[1].GetTensorData<float>();
  const std::int64_t* classes = found[2].GetTensorData<std::int64_t>();
  const std::size_t count = found[1].GetTensorTypeAndShapeInfo().GetElementCount();
  const float scale_x = static_cast<float>(content.width) / photo.cols;
  const float scale_y = static_cast<float>(content.height) / photo.rows;
  std::cout << std::fixed;
  for (std::size_t i = 0; i < count; ++i) {
    if (scores[i] < kThreshold) continue;
    const float* box = boxes + 4 * i;  // found[3] has its mask, M x M probabilities: docs/model-file.md
    std::cout << classes[i] << ' ' << scores[i] << ' ' << box[0] / scale_x << ' ' << box[1] / scale_y << ' '
              << std::min(box[2] / scale_x, static_cast<float>(photo.cols)) << ' '
              << std::min(box[3] / scale_y, static_cast<float>(photo.rows)) << '\n';
  }
} catch (const std::exception& error) {  // Ort::Exception or cv::Exception
  std::cerr << error.what() << '\n';
  return 1;
}
