// Predicts one image with an exported model: predict MODEL.onnx IMAGE.ppm LABELS.pgm
//
// Prints one line for each object, in predicted order (step, class, score, objectness, pixels; tabs between them), and
// writes a label map: 0 background, i = the i-th object, a pixel of several objects belongs to the first. The
// numbers are those of rsis_tf.runtime.Predictor.

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// Rows of pixels of `channels` values each.
struct Image {
  int height = 0, width = 0, channels = 0;
  std::vector<float> values;
};

struct Settings {
  int height = 0, width = 0;
  float stop_threshold = 0, mask_threshold = 0;
  bool keep_aspect = false;
  std::vector<std::string> class_names;
};

int read_number(std::istream& file) {
  while (file >> std::ws && file.peek() == '#') {
    std::string comment;
    std::getline(file, comment);
  }
  int number = 0;
  file >> number;
  return number;
}

Image read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic(2, ' ');
  file.read(magic.data(), 2);
  Image image;
  image.width = read_number(file);
  image.height = read_number(file);
  const int maximum = read_number(file);
  file.get();  // one blank, then the pixels
  if (!file || magic != "P6" || maximum != 255 || image.width < 1 || image.height < 1) {
    throw std::runtime_error("expected a binary PPM (P6) of 8 bits. Received: " + path);
  }
  image.channels = 3;
  std::vector<unsigned char> bytes(std::size_t{3} * image.height * image.width);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (static_cast<std::size_t>(file.gcount()) != bytes.size()) {
    throw std::runtime_error("expected " + std::to_string(bytes.size()) + " bytes of pixels. Received: " +
                             std::to_string(file.gcount()) + " in " + path);
  }
  image.values.assign(bytes.begin(), bytes.end());
  return image;
}

// The samples that make up a result: the index of the first, and the weight of each.
struct Window {
  int start = 0;
  std::vector<double> weights;
};

// An antialiased triangle filter: it reaches one result to each side, but at least one sample.
std::vector<Window> triangle_windows(int from, int to) {
  const double scale = static_cast<double>(from) / to;
  const double reach = std::max(scale, 1.0);
  std::vector<Window> windows(to);
  for (int i = 0; i < to; ++i) {
    const double centre = (i + 0.5) * scale;
    const int start = std::max(static_cast<int>(centre - reach + 0.5), 0);
    const int end = std::min(static_cast<int>(centre + reach + 0.5), from);
    double sum = 0;
    windows[i].start = start;
    for (int sample = start; sample < end; ++sample) {
      const double weight = std::max(1 - std::abs((sample + 0.5 - centre) / reach), 0.0);
      windows[i].weights.push_back(weight);
      sum += weight;
    }
    for (double& weight : windows[i].weights) weight /= sum;
  }
  return windows;
}

// Scales columns, then rows. With `whole`, values are rounded to 0..255 after each, as in the Python runtime.
Image resize(const Image& source, int height, int width, bool whole) {
  const auto finish = [whole](double value) {
    return static_cast<float>(whole ? std::clamp(std::floor(value + 0.5), 0.0, 255.0) : value);
  };
  const int channels = source.channels;
  Image wide = source;
  if (width != source.width) {
    wide.width = width;
    wide.values.resize(std::size_t{1} * source.height * width * channels);
    const auto windows = triangle_windows(source.width, width);
    for (int y = 0; y < source.height; ++y) {
      for (int x = 0; x < width; ++x) {
        for (int c = 0; c < channels; ++c) {
          const float* row = &source.values[(std::size_t{1} * y * source.width + windows[x].start) * channels + c];
          double sum = 0;
          for (std::size_t k = 0; k < windows[x].weights.size(); ++k) sum += windows[x].weights[k] * row[k * channels];
          wide.values[(std::size_t{1} * y * width + x) * channels + c] = finish(sum);
        }
      }
    }
  }
  if (height == source.height) return wide;
  Image result{height, width, channels, std::vector<float>(std::size_t{1} * height * width * channels)};
  const auto windows = triangle_windows(source.height, height);
  const std::size_t stride = std::size_t{1} * width * channels;
  for (int y = 0; y < height; ++y) {
    for (std::size_t i = 0; i < stride; ++i) {
      const float* column = &wide.values[windows[y].start * stride + i];
      double sum = 0;
      for (std::size_t k = 0; k < windows[y].weights.size(); ++k) sum += windows[y].weights[k] * column[k * stride];
      result.values[y * stride + i] = finish(sum);
    }
  }
  return result;
}

// The position of an image in the frame that the network takes.
struct Rectangle {
  int top = 0, left = 0, height = 0, width = 0;
};

// Centres an undistorted image in a frame, as large as it fits, with the whole numbers of the Python runtime.
Rectangle letterbox(const Image& source, int height, int width) {
  const std::int64_t from_height = source.height, from_width = source.width;
  Rectangle rectangle{0, 0, height, width};
  if (from_height * width >= from_width * height) {
    const std::int64_t inner = (2 * from_width * height + from_height) / (2 * from_height);
    rectangle.width = std::max(static_cast<int>(inner), 1);
  } else {
    const std::int64_t inner = (2 * from_height * width + from_width) / (2 * from_width);
    rectangle.height = std::max(static_cast<int>(inner), 1);
  }
  rectangle.top = (height - rectangle.height) / 2;
  rectangle.left = (width - rectangle.width) / 2;
  return rectangle;
}

// Copies an image to its rectangle in a black frame.
Image padded(const Image& source, const Rectangle& rectangle, int height, int width) {
  Image frame{height, width, source.channels, std::vector<float>(std::size_t{1} * height * width * source.channels)};
  const std::size_t stride = std::size_t{1} * source.width * source.channels;
  for (int y = 0; y < source.height; ++y) {
    const std::size_t target = (std::size_t{1} * (rectangle.top + y) * width + rectangle.left) * source.channels;
    std::copy_n(source.values.begin() + static_cast<std::ptrdiff_t>(y * stride), stride,
                frame.values.begin() + static_cast<std::ptrdiff_t>(target));
  }
  return frame;
}

// Copies a rectangle out of a frame that has one channel and is `width` pixels wide.
Image cut(const float* frame, const Rectangle& rectangle, int width) {
  Image part{rectangle.height, rectangle.width, 1, {}};
  for (int y = 0; y < rectangle.height; ++y) {
    const float* row = frame + std::size_t{1} * (rectangle.top + y) * width + rectangle.left;
    part.values.insert(part.values.end(), row, row + rectangle.width);
  }
  return part;
}

// The mean of a mask's probabilities, weighted by themselves.
float mask_score(const Image& mask) {
  double sum = 0, squares = 0;
  for (const double value : mask.values) {
    sum += value;
    squares += value * value;
  }
  return sum > 0 ? static_cast<float>(squares / sum) : 0;
}

// The strings of a JSON list; escapes of one UTF-16 unit become UTF-8.
std::vector<std::string> parse_strings(const std::string& text) {
  std::vector<std::string> strings;
  bool inside = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') {
      inside = !inside;
      if (inside) strings.emplace_back();
    } else if (inside && text[i] == '\\' && i + 5 < text.size() && text[i + 1] == 'u') {
      const int code = std::stoi(text.substr(i + 2, 4), nullptr, 16);
      if (code < 0x80) {
        strings.back() += static_cast<char>(code);
      } else if (code < 0x800) {
        strings.back() += {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
      } else {
        strings.back() += {static_cast<char>(0xE0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3F)),
                           static_cast<char>(0x80 | (code & 0x3F))};
      }
      i += 5;
    } else if (inside) {
      strings.back() += text[i] == '\\' ? text[++i] : text[i];
    }
  }
  return strings;
}

Settings read_settings(const Ort::Session& session) {
  const Ort::ModelMetadata metadata = session.GetModelMetadata();
  Ort::AllocatorWithDefaultOptions allocator;
  const auto look_up = [&](const char* key) {
    const auto value = metadata.LookupCustomMetadataMapAllocated(key, allocator);
    if (!value) throw std::runtime_error(std::string("expected a model of export.onnx. Received: one without ") + key);
    return std::string(value.get());
  };
  Settings settings;
  settings.class_names = parse_strings(look_up("class_names"));
  settings.stop_threshold = std::stof(look_up("stop_threshold"));
  settings.mask_threshold = std::stof(look_up("mask_threshold"));
  const std::string size = look_up("image_size");
  if (std::sscanf(size.c_str(), "[%d, %d]", &settings.height, &settings.width) != 2) {
    throw std::runtime_error("expected image_size as [height, width]. Received: " + size);
  }
  // Files of earlier versions have no aspect: they stretch.
  const auto aspect = metadata.LookupCustomMetadataMapAllocated("aspect", allocator);
  const std::string word = aspect ? aspect.get() : "stretch";
  if (word != "stretch" && word != "keep") {
    throw std::runtime_error("expected the aspect stretch or keep. Received: " + word);
  }
  settings.keep_aspect = word == "keep";
  return settings;
}

std::vector<Ort::Value> run(Ort::Session& session, const Image& image) {
  const Ort::TypeInfo type = session.GetInputTypeInfo(0);  // must outlive `wanted`, which refers to it
  const auto wanted = type.GetTensorTypeAndShapeInfo();
  if (wanted.GetShape()[0] > 1) {
    throw std::runtime_error("expected a model for one image. Received: a batch of " +
                             std::to_string(wanted.GetShape()[0]));
  }
  const std::array<std::int64_t, 4> shape{1, image.height, image.width, 3};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const std::array<const char*, 1> inputs{"image"};
  const std::array<const char*, 3> outputs{"masks", "classes", "stop"};
  const auto compute = [&](Ort::Value input) {
    return session.Run(Ort::RunOptions{nullptr}, inputs.data(), &input, 1, outputs.data(), outputs.size());
  };
  if (wanted.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
    std::vector<float> values = image.values;
    return compute(
        Ort::Value::CreateTensor<float>(memory, values.data(), values.size(), shape.data(), shape.size()));
  }
  std::vector<std::uint8_t> bytes(image.values.begin(), image.values.end());
  return compute(
      Ort::Value::CreateTensor<std::uint8_t>(memory, bytes.data(), bytes.size(), shape.data(), shape.size()));
}

void write_labels(const std::string& path, const std::vector<std::uint8_t>& labels, int height, int width) {
  const std::string partial = path + ".partial";
  {
    std::ofstream file(partial, std::ios::binary);
    file << "P5\n" << width << ' ' << height << "\n255\n";
    file.write(reinterpret_cast<const char*>(labels.data()), static_cast<std::streamsize>(labels.size()));
    if (!file) throw std::runtime_error("expected a path that can be written. Received: " + path);
  }
  std::remove(path.c_str());  // on systems where renaming does not replace a file
  if (std::rename(partial.c_str(), path.c_str()) != 0) throw std::runtime_error("cannot rename to " + path);
}

void predict(const std::string& model, const std::string& source, const std::string& target) {
  const Image image = read_ppm(source);
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "predict");
  Ort::SessionOptions options;
  // Windows takes wide file names; this example supports ASCII only.
  Ort::Session session(env, std::basic_string<ORTCHAR_T>(model.begin(), model.end()).c_str(), options);
  const Settings settings = read_settings(session);
  const Rectangle rectangle = settings.keep_aspect ? letterbox(image, settings.height, settings.width)
                                                   : Rectangle{0, 0, settings.height, settings.width};
  const Image scaled = resize(image, rectangle.height, rectangle.width, true);
  const std::vector<Ort::Value> answer = run(session, padded(scaled, rectangle, settings.height, settings.width));

  const auto sides = answer[0].GetTensorTypeAndShapeInfo().GetShape();  // (1, T, h, w)
  const int steps = static_cast<int>(sides[1]), height = static_cast<int>(sides[2]), width = static_cast<int>(sides[3]);
  const auto classes = static_cast<std::size_t>(answer[1].GetTensorTypeAndShapeInfo().GetShape()[2]);  // K
  const float *masks = answer[0].GetTensorData<float>(), *probs = answer[1].GetTensorData<float>(),
              *stop = answer[2].GetTensorData<float>();

  std::vector<std::uint8_t> labels(std::size_t{1} * image.height * image.width);
  int found = 0;
  for (int step = 0; step < steps && stop[step] >= settings.stop_threshold; ++step) {
    const float* start = masks + std::size_t{1} * step * height * width;
    // The mask of a stretched image fills the frame.
    const Image small = cut(start, settings.keep_aspect ? rectangle : Rectangle{0, 0, height, width}, width);
    const Image mask = resize(small, image.height, image.width, false);
    const auto inside = [&](float value) { return value >= settings.mask_threshold; };
    const auto pixels = std::count_if(mask.values.begin(), mask.values.end(), inside);
    if (pixels == 0) continue;  // a step without a pixel is no object, but the sequence continues
    if (++found > 255) throw std::runtime_error("a PGM of 8 bits holds 255 objects. Received: more");
    for (std::size_t i = 0; i < labels.size(); ++i) {
      if (labels[i] == 0 && inside(mask.values[i])) labels[i] = static_cast<std::uint8_t>(found);
    }
    const float* row = probs + step * classes;
    const auto best = static_cast<std::size_t>(std::max_element(row + 1, row + classes) - row);  // 0 is background
    const std::string name =
        best < settings.class_names.size() ? settings.class_names[best] : "class " + std::to_string(best);
    const float score = row[best] * stop[step] * mask_score(small);
    std::printf("%d\t%s\t%.6f\t%.6f\t%lld\n", step, name.c_str(), score, stop[step], static_cast<long long>(pixels));
  }
  write_labels(target, labels, image.height, image.width);
}

}  // namespace

int main(int count, char** words) {
  if (count != 4) {
    std::cerr << "usage: predict MODEL.onnx IMAGE.ppm LABELS.pgm\n";
    return 2;
  }
  try {
    predict(words[1], words[2], words[3]);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
