"""The ROS 2 node: six cameras in, a vectorised map out.

Parameters, life cycle, topics and services; what happens to the images is `map_session`. See docs/ros.md.
"""

import functools
import signal
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import rclpy
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock, ClockChange, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.signals import SignalHandlerOptions

from hdmap_core.errors import ConfigError, HdmapError
from hdmap_ros import node_config
from hdmap_ros.bag.layouts import CameraTopics
from hdmap_ros.camera_inputs import CameraInputs
from hdmap_ros.conversions import model_info_to_message
from hdmap_ros.diagnostics import to_message
from hdmap_ros.map_output import MapOutput
from hdmap_ros.map_session import MapSession, make_builder, sync_config_of
from hdmap_ros.message_types import graph_types
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.node_parameters import declaration
from hdmap_ros.node_report import write_report
from hdmap_ros.pipeline import MapPipeline, Predictor, check_cameras, warm_up
from hdmap_ros.ros_graph import RosGraph
from hdmap_ros.sync_policies import make_synchronizer
from hdmap_ros.transforms import TransformBuffer

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE
_POLL_S, _RECHECK_S = 0.02, 0.25
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_STATIC_TF = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def _transition(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Logs what goes wrong in a transition; rclpy would swallow it. What a user can mend is FAILURE, the rest ERROR."""

    @functools.wraps(callback)
    def guarded(self: "OnlineMapNode", state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(self, state)
        except (HdmapError, ParameterException) as error:
            self.log("error", str(error))
            return FAILURE
        except Exception:
            self.log("error", traceback.format_exc())
            return TransitionCallbackReturn.ERROR

    return guarded


class OnlineMapNode(LifecycleNode):
    """See the module's docstring. `load` makes the predictor from the config.

    Attributes:
        config: the parameters as they are now.
        session: what is loaded; None unless configured.
    """

    def __init__(self, load: Callable[[OnlineMapConfig], Predictor], name: str = "online_map", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self._load = load
        self._types = graph_types()
        self.session: MapSession | None = None
        self._active_timers: list[Any] = []
        for spec in node_config.PARAMETERS:
            self.declare_parameter(spec.name, *declaration(spec))
        self.config = self._read_config()
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(lambda parameters: setattr(self, "config", self._read_config()))
        backward = Duration(seconds=-self.config.time_jump_reset)
        threshold = JumpThreshold(min_forward=None, min_backward=backward, on_clock_change=True)
        self._jumps = self.get_clock().create_jump_callback(threshold, post_callback=self._on_jump)

    def now_ns(self) -> int:
        """The node's clock, which follows /clock with use_sim_time."""
        return self.get_clock().now().nanoseconds

    def log(self, level: str, message: str) -> None:
        """Writes to the node's log; level info, warning or error."""
        logger = self.get_logger()
        # One call per level: rclpy refuses a place in the code whose severity changes.
        if level == "error":
            logger.error(message)
        elif level == "warning":
            logger.warning(message)
        else:
            logger.info(message)

    # Parameters

    def _read_config(self) -> OnlineMapConfig:
        return node_config.config_from_values(
            {spec.name: self.get_parameter(spec.name).value for spec in node_config.PARAMETERS}
        )

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        specs = {spec.name: spec for spec in node_config.PARAMETERS}
        for parameter in parameters:
            spec = specs.get(parameter.name)
            if spec is None:
                continue
            try:
                spec.check(parameter.value)
            except ConfigError as error:
                return SetParametersResult(successful=False, reason=str(error))
            if not spec.live and self.session is not None:
                reason = f"parameter {spec.name} is read when the node is configured; clean the node up first"
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    # Transitions

    @_transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the model, warms it up, makes publishers and listens to TF."""
        config = self.config
        self.log("info", "loading the model; this takes some seconds")
        predictor = self._load(config)
        cameras = config.camera_names
        check_cameras(predictor.info, cameras)
        topics = {camera: self._camera_topics(camera) for camera in cameras}
        synchronizer = make_synchronizer(config.sync_policy, sync_config_of(config))
        self._transforms = TransformBuffer()
        frame_ids = {camera: entry.frame for camera, entry in topics.items() if entry.frame}
        self._pool = ThreadPoolExecutor(max_workers=min(4, len(cameras)), thread_name_prefix="decode")
        warn = functools.partial(self.log, "warning")
        pipeline = MapPipeline(make_builder(config, frame_ids, self._transforms, self._pool, warn), predictor)
        warm_ms = warm_up(predictor, cameras, config.warmup_iterations)
        session = MapSession(self, pipeline, synchronizer, self._make_outputs())
        graph, transport, reliability = RosGraph(self, config.qos_depth), config.image_transport, config.qos_reliability
        session.inputs = CameraInputs(graph, topics, transport, reliability, session.on_image, session.on_info)
        self.session = session
        self.log("info", f"model {predictor.info.model_id} is ready, warmed up at {warm_ms:.0f} ms per set")
        return SUCCESS

    def _camera_topics(self, camera: str) -> CameraTopics:
        for key, description in node_config.CAMERA_PARAMETERS.items():
            name = f"cameras.{camera}.{key}"
            if not self.has_parameter(name):
                self.declare_parameter(name, "", ParameterDescriptor(description=description))
        image, info, frame = (
            self.get_parameter(f"cameras.{camera}.{key}").value for key in node_config.CAMERA_PARAMETERS
        )
        image = image or node_config.default_image_topic(camera, self.config.image_transport)
        info = info or node_config.sibling_info_topic(image)
        return CameraTopics(image, "" if self.config.calibration_source == "file" else info, frame)

    def _make_outputs(self) -> MapOutput:
        get = self._types.get
        overrides = QoSOverridingOptions.with_default_policies()
        make = functools.partial(self.create_publisher, qos_overriding_options=overrides)
        elements = make(get("hdmap_ros/msg/MapElementArray"), "~/output/map_elements", 1)
        markers = make(get("visualization_msgs/msg/MarkerArray"), "~/output/markers", 1)
        self._info_pub = self.create_publisher(get("hdmap_ros/msg/MapModelInfo"), "~/output/model_info", _LATCHED)
        self._diagnostics_pub = self.create_publisher(get("diagnostic_msgs/msg/DiagnosticArray"), "/diagnostics", 1)
        self._own_publishers = [elements, markers, self._info_pub, self._diagnostics_pub]
        self._tf_subscriptions = [self._listen("/tf", QoSProfile(depth=100)), self._listen("/tf_static", _STATIC_TF)]
        self._own_services = [
            self.create_service(get("std_srvs/srv/SetBool"), "~/enable", self._on_enable),
            self.create_service(get("std_srvs/srv/Trigger"), "~/reset", self._on_reset),
        ]
        return MapOutput(self._types, elements, markers, self._transforms)

    def _listen(self, topic: str, qos: QoSProfile) -> Any:
        buffer, static = self._transforms, topic == "/tf_static"

        def store(message: Any) -> None:
            buffer.add(message.transforms, static)

        return self.create_subscription(self._types.get("tf2_msgs/msg/TFMessage"), topic, store, qos)

    @_transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes to the cameras and starts the worker and the timers."""
        session = self.session
        assert session is not None
        session.start()
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # the node's clock stands still when a bag is paused
        self._active_timers = [
            self.create_timer(_POLL_S, self._poll, clock=steady),
            self.create_timer(_RECHECK_S, session.inputs.recheck, clock=steady),
            self.create_timer(self.config.diagnostics_period, self._publish_diagnostics, clock=steady),
        ]
        info = session.pipeline.predictor.info
        message = model_info_to_message(
            self._types,
            info,
            camera_names=session.pipeline.builder.cameras,
            stamp_ns=self.now_ns(),
            frame_id=self.config.output_frame,
            score_threshold=max(info.score_threshold, self.config.score_threshold),
        )
        self._info_pub.publish(message)
        super().on_activate(state)
        topics = ", ".join(session.inputs.topics().values())
        self.log("info", f"online_map active, model {info.model_id}, precision {info.precision}, images: {topics}")
        return SUCCESS

    @_transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends subscriptions and worker; the model stays loaded."""
        self._stop()
        return super().on_deactivate(state)

    @_transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the model and the publishers: also at shutdown, and after an error to be configured again."""
        self._release()
        return SUCCESS

    on_shutdown = on_cleanup
    on_error = on_cleanup

    def _stop(self) -> None:
        for timer in self._active_timers:
            self.destroy_timer(timer)
        self._active_timers = []
        if self.session is None or self.session.worker is None:
            return
        self._publish_diagnostics()
        report = self.session.report
        if self.config.report_file:
            self.session.worker.stop()  # so that the last map is counted
            write_report(Path(self.config.report_file), report())
        self.session.stop()

    def _release(self) -> None:
        try:
            self._stop()
        finally:
            if self.session is not None:
                self.session = None
                for publisher in self._own_publishers:
                    self.destroy_publisher(publisher)
                for subscription in self._tf_subscriptions:
                    self.destroy_subscription(subscription)
                for service in self._own_services:
                    self.destroy_service(service)
                self._pool.shutdown(wait=False)

    # Timers and services

    def _poll(self) -> None:
        if self.session is None:
            return
        self.session.poll()
        if self.session.broken:
            self.log("error", f"{self.config.max_failures} sets failed in a row; deactivating")
            self.trigger_deactivate()

    def _publish_diagnostics(self) -> None:
        if self.session is None or self.session.worker is None:
            return
        name = self.get_fully_qualified_name().lstrip("/")
        model_id = self.session.pipeline.predictor.info.model_id
        statuses = self.session.statuses()
        self._diagnostics_pub.publish(to_message(self._types, statuses, self.now_ns(), name, model_id))

    def _on_jump(self, jump: Any) -> None:
        if self.session is not None and jump.clock_change == ClockChange.ROS_TIME_NO_CHANGE:
            self._transforms.forget_after(self.now_ns())
        self._reset("clock")

    def _reset(self, reason: str) -> None:
        if self.session is not None:
            self.session.reset(reason)

    def _on_enable(self, request: Any, response: Any) -> Any:
        if self.session is not None:
            self.session.enabled = request.data
        response.success, response.message = True, "enabled" if request.data else "disabled"
        return response

    def _on_reset(self, request: Any, response: Any) -> Any:
        self._reset("by service")
        response.success, response.message = True, "reset"
        return response


def load_model(config: OnlineMapConfig) -> Predictor:
    """The predictor that the parameters name.

    Raises:
        CheckpointError: if there is no such checkpoint or it is not ours.
    """
    from hdmap_core.checkpoint import find_checkpoint
    from hdmap_core.inference import default_weights, load_predictor

    if config.threads:
        import torch

        torch.set_num_threads(config.threads)
    path = find_checkpoint(Path(config.weights).expanduser()) if config.weights else default_weights()
    precision = None if config.precision == "auto" else config.precision
    return load_predictor(path, config.device, precision, cameras_only=True)


def run(load: Callable[[OnlineMapConfig], Predictor], arguments: list[str] | None = None) -> int:
    """Runs the node until SIGINT or SIGTERM.

    Returns:
        Exit code: 0 after a signal, 1 if the node could not start.
    """
    # Own handlers: rclpy's shut the context down at once, and the last messages could not be sent any more.
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: stopping.append(received))
    try:
        node = OnlineMapNode(load)
    except (HdmapError, ParameterException) as error:
        rclpy.logging.get_logger("online_map").error(str(error))
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    autostart = node.config.autostart
    started = not autostart or (node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS)
    while started and not stopping:
        executor.spin_once(timeout_sec=0.2)
    node.trigger_shutdown()
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
    return 0 if started else 1


def main() -> None:
    """`python -m hdmap_ros.online_map_node --ros-args --params-file FILE -p model.weights:=FILE`."""
    sys.exit(run(load_model))


if __name__ == "__main__":
    main()
