"""pumpseg as a ROS 2 node: images in, vision_msgs/Detection2DArray and an annotated picture out.

pip install "pumpseg[cpu,track]"      # into the Python that ROS 2 uses; rclpy, cv_bridge, vision_msgs come from ROS
python ros2_node.py --ros-args -r image:=/camera/image_raw -p threshold:=0.6
"""

import rclpy
from cv_bridge import CvBridge
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from pumpseg import Instances, Segmenter, Tracker, draw


class PumpsegNode(Node):
    def __init__(self) -> None:
        super().__init__("pumpseg")
        threshold = self.declare_parameter("threshold", 0.5).value
        self._segmenter = Segmenter(threshold=threshold, allow_spinning=False)
        self._tracker = Tracker()
        self._bridge = CvBridge()
        self._found = self.create_publisher(Detection2DArray, "detections", 10)
        self._annotated = self.create_publisher(Image, "annotated", qos_profile_sensor_data)
        # Best effort and a queue of one: frames that the model cannot keep up with are dropped.
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(Image, "image", self._segment, newest)

    def _segment(self, message: Image) -> None:
        frame = self._bridge.imgmsg_to_cv2(message, "bgr8")
        stamp = message.header.stamp
        instances = self._tracker.update(self._segmenter(frame), stamp.sec + 1e-9 * stamp.nanosec)
        self._found.publish(self._detections(message, instances))
        if self._annotated.get_subscription_count():
            annotated = self._bridge.cv2_to_imgmsg(draw(frame, instances), "bgr8")
            annotated.header = message.header
            self._annotated.publish(annotated)

    def _detections(self, message: Image, instances: Instances) -> Detection2DArray:
        array = Detection2DArray(header=message.header)
        for i, (x1, y1, x2, y2) in enumerate(instances.boxes.tolist()):
            detection = Detection2D(header=message.header)
            detection.bbox.center.position.x, detection.bbox.center.position.y = (x1 + x2) / 2, (y1 + y2) / 2
            detection.bbox.size_x, detection.bbox.size_y = x2 - x1, y2 - y1
            hypothesis = ObjectHypothesisWithPose()
            hypothesis.hypothesis.class_id = instances.labels[i]
            hypothesis.hypothesis.score = float(instances.scores[i])
            detection.results.append(hypothesis)
            track_id = instances.track_id(i)
            detection.id = "" if track_id is None else str(track_id)
            array.detections.append(detection)
        return array


def main() -> None:
    rclpy.init()
    node = PumpsegNode()
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
