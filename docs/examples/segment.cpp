// The bare model file from C++: boxes of a photo, with ONNX Runtime and OpenCV.
//
//   g++ -std=c++17 segment.cpp -o segment $(pkg-config --cflags --libs opencv4) -I$ORT/include -L$ORT/lib -lonnxruntime
//   ./segment fast.onnx photo.jpg        ($ORT is an unpacked release of ONNX Runtime 1.17 or later)

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <vector>

#include <onnxruntime_cxx_api.h>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

constexpr float kScore = 0.5f;
constexpr double kFill = 127;  // letterbox.fill of the file's metadata; its letterbox.placement is top-left

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: segment MODEL.onnx PHOTO\n";
    return 2;
  }
  const cv::Mat photo = cv::imread(argv[2]);
  if (photo.empty()) {
    std::cerr << argv[2] << " is no image that OpenCV can read\n";
    return 2;
  }

  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "pumpseg");
  Ort::Session session(env, argv[1], Ort::SessionOptions{});
  const std::vector<std::int64_t> shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
  const int input_height = static_cast<int>(shape[1]), input_width = static_cast<int>(shape[2]);

  const double scale = std::min(static_cast<double>(input_height) / photo.rows,
                                static_cast<double>(input_width) / photo.cols);
  const cv::Size content(static_cast<int>(std::lround(photo.cols * scale)),
                         static_cast<int>(std::lround(photo.rows * scale)));
  cv::Mat image(input_height, input_width, CV_8UC3, cv::Scalar::all(kFill));
  cv::Mat inner = image(cv::Rect(cv::Point(0, 0), content));
  cv::resize(photo, inner, content, 0, 0, scale < 0.5 ? cv::INTER_AREA : cv::INTER_LINEAR);
  cv::cvtColor(image, image, cv::COLOR_BGR2RGB);

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
  for (std::size_t i = 0; i < count; ++i) {
    if (scores[i] < kScore) continue;
    const float* box = boxes + 4 * i;  // found[3] has its mask, M x M probabilities: docs/model-file.md
    std::cout << classes[i] << ' ' << scores[i] << ' ' << box[0] / scale_x << ' ' << box[1] / scale_y << ' '
              << std::min(box[2] / scale_x, static_cast<float>(photo.cols)) << ' '
              << std::min(box[3] / scale_y, static_cast<float>(photo.rows)) << '\n';
  }
} catch (const Ort::Exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
