#!/bin/sh
# Runs tests of the runtime on aarch64, emulated by QEMU, and compares what is detected there with this machine.
#
#     benchmarks/arm_emulation.sh [WORK]            # WORK: where downloads are kept, default build/arm
#     ARM_CPU=cortex-a72 benchmarks/arm_emulation.sh
#
# For Debian and Ubuntu on x86-64; root is not needed and nothing is installed. apt fetches QEMU and an aarch64 Python
# into WORK, pip the aarch64 wheels. Emulation says nothing about speed; it takes about half an hour.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
work=${1:-$here/build/arm}
# The Raspberry Pi 5 has this one, with int8 dot products (asimddp); the Pi 4 has cortex-a72, without.
cpu=${ARM_CPU:-cortex-a76}
suite=trixie python=3.13
mkdir -p "$work"
work=$(cd "$work" && pwd)
root=$work/root

fetch() { # architecture, packages: with what they depend on, into $work/apt-ARCHITECTURE
    state=$work/apt-$1
    architecture=$1
    shift
    [ ! -f "$work/$architecture.complete" ] || return 0
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    : > "$state/status"
    echo "deb http://deb.debian.org/debian $suite main" > "$state/sources.list"
    cat > "$state/apt.conf" <<END
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Install-Recommends "false";
APT::Sandbox::User "";
Debug::NoLocking "true";
Dir::Etc::SourceList "$state/sources.list";
Dir::Etc::SourceParts "$state/none";
Dir::State::Lists "$state/lists";
Dir::State::Status "$state/status";
Dir::Cache "$state/cache";
END
    APT_CONFIG=$state/apt.conf apt-get -q update
    APT_CONFIG=$state/apt.conf apt-get -q -y --download-only install "$@"
    touch "$work/$architecture.complete"
}

unpack() { # folder of packages, folder to unpack into
    mkdir -p "$2"
    for package in "$1"/*.deb; do
        dpkg -x "$package" "$2"
    done
}

fetch amd64 qemu-user
fetch arm64 "python$python" libstdc++6 tzdata
[ -d "$work/qemu" ] || unpack "$work/apt-amd64/cache/archives" "$work/qemu"
if [ ! -d "$root" ]; then
    mkdir -p "$root/usr/lib"
    ln -s usr/lib "$root/lib"
    unpack "$work/apt-arm64/cache/archives" "$root"
fi
if [ ! -d "$work/site" ]; then
    python3 -m pip install -q --target "$work/site.part" --only-binary :all: --implementation cp \
        --python-version "$python" --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
        --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
        'numpy>=2.1,<3' 'opencv-python-headless>=4.11,<6' 'onnxruntime>=1.25,<2' 'av>=15,<19' 'shtab>=1.13,<2' \
        'websockets>=15,<18' 'onnx>=1.20,<2' 'pycocotools>=2.0.10,<3' 'hypothesis>=6.130,<7' \
        'pytest>=8.4,<10' 'pytest-timeout>=2.4,<3' 'pytest-xdist>=3.7,<4'
    mv "$work/site.part" "$work/site"
fi

# What Python starts with sys.executable must be emulated too.
cat > "$work/python" <<END
#!/bin/sh
exec "$work/qemu/usr/bin/qemu-aarch64" -cpu "$cpu" -L "$root" "$root/usr/bin/python$python" "\$@"
END
chmod +x "$work/python"
mkdir -p "$work/start"
echo 'import os, sys; sys.executable = os.environ["EMULATED_PYTHON"]' > "$work/start/sitecustomize.py"
emulated() {
    env -u PYTHONHOME PYTHONPATH="$work/start:$work/site:$here/runtime" PYTHONDONTWRITEBYTECODE=1 \
        EMULATED_PYTHON="$work/python" "$work/python" "$@"
}

cd "$here"
emulated -c '
import platform, cv2, numpy, onnxruntime
from pumpseg.inference.cpu import int8_dot_product
print(platform.machine(), "numpy", numpy.__version__, "opencv", cv2.__version__, "onnxruntime", onnxruntime.__version__)
print("int8 dot products:", int8_dot_product() or "none")'
# shellcheck disable=SC2086 # several paths
emulated -m pytest -n 0 -p no:cacheprovider --timeout 0 -rs ${ARM_TESTS-tests/runtime/inference tests/runtime/masks}
emulated benchmarks/arm_agreement.py detect "$work/aarch64.json"
PYTHONPATH="$here/runtime:$here/benchmarks" python3 benchmarks/arm_agreement.py detect "$work/here.json"
PYTHONPATH="$here/runtime:$here/benchmarks" python3 benchmarks/arm_agreement.py compare "$work/here.json" "$work/aarch64.json"
