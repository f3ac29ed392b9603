"""The ROS 2 node: six cameras in, a vectorised map out.

The executor's thread only stores: images go to the synchroniser, sets to the worker's single slot. The worker's thread
decodes, predicts and publishes. See docs/ros.md for topics, parameters and behaviour.
"""

import functools
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.signals import SignalHandlerOptions

from hdmap_core.errors import ConfigError, HdmapError, ImageError
from hdmap_ros import node_config
from hdmap_ros.bag.layouts import CameraTopics
from hdmap_ros.calibration import read_calibration_file
from hdmap_ros.camera_inputs import CameraInputs
from hdmap_ros.conversions import model_info_to_message
from hdmap_ros.diagnostics import LatencyLog, to_message
from hdmap_ros.map_output import MapOutput
from hdmap_ros.message_types import graph_types
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.node_parameters import declaration
from hdmap_ros.node_report import node_report, node_statuses, write_report
from hdmap_ros.observation_builder import BuilderConfig, NotReadyError, ObservationBuilder
from hdmap_ros.pipeline import MapPipeline, Predictor, choose_anchor, warm_up
from hdmap_ros.stamps import stamp_to_ns
from hdmap_ros.sync_policies import SynchronizerFilter, make_synchronizer
from hdmap_ros.synchronizer import ImageSet, SyncConfig
from hdmap_ros.transforms import TransformBuffer
from hdmap_ros.worker import Worker

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)
_POLL_S, _RECHECK_S = 0.02, 0.25
_SILENT = ("no_publisher", "no_data", "incompatible_qos")
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def _transition(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Logs what goes wrong in a transition; rclpy would swallow it. What a user can mend is FAILURE, the rest ERROR."""

    @functools.wraps(callback)
    def guarded(self: "OnlineMapNode", state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(self, state)
        except (HdmapError, ParameterException) as error:
            self.get_logger().error(str(error))
            return FAILURE
        except Exception:
            self.get_logger().error(traceback.format_exc())
            return ERROR

    return guarded


@dataclass(frozen=True)
class _Job:
    images: ImageSet
    closed_ns: int


class OnlineMapNode(LifecycleNode):
    """See the module's docstring. `load` makes the predictor from the config."""

    def __init__(self, load: Callable[[OnlineMapConfig], Predictor], name: str = "online_map", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self._load = load
        self._types = graph_types()
        self._counts: Counter[str] = Counter()
        self._latencies = LatencyLog()
        self._pipeline: MapPipeline | None = None
        self._worker: Worker | None = None
        self._enabled = True
        self._resets = 0
        self._warned: dict[str, float] = {}
        self._last_job_ns = 0
        self._timers_active: list[Any] = []
        for spec in node_config.PARAMETERS:
            self.declare_parameter(spec.name, *declaration(spec))
        self.config = self._read_config()
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(lambda parameters: self._apply_parameters())
        threshold = JumpThreshold(
            min_forward=None, min_backward=Duration(seconds=-self.config.time_jump_reset), on_clock_change=True
        )
        self._jumps = self.get_clock().create_jump_callback(threshold, post_callback=lambda jump: self.reset("clock"))

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
            if not spec.live and self._pipeline is not None:
                reason = f"parameter {spec.name} is read when the node is configured; clean the node up first"
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _apply_parameters(self) -> None:
        self.config = self._read_config()

    # Transitions

    @_transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the model, warms it up, makes publishers and listens to TF."""
        config = self.config
        self.get_logger().info("loading the model; this takes some seconds")
        predictor = self._load(config)
        cameras = config.camera_names
        lacking = set(predictor.info.camera_names) - set(cameras)
        if lacking:
            raise ConfigError(f"the model needs {', '.join(sorted(lacking))}; parameter camera_names does not name it")
        topics = {camera: self._camera_topics(camera) for camera in cameras}
        sync_config = SyncConfig(
            cameras,
            choose_anchor(config.sync_anchor, cameras),
            config.sync_min_cameras or len(cameras),
            max_spread_ns=round(config.sync_max_spread * 1e9),
            timeout_ns=round(config.sync_timeout * 1e9),
            jump_ns=round(config.time_jump_reset * 1e9),
        )
        self._sync = SynchronizerFilter(make_synchronizer(config.sync_policy, sync_config))
        self._sync.registerCallback(self._on_set)
        self._transforms = TransformBuffer()
        self._pool = ThreadPoolExecutor(max_workers=min(4, len(cameras)), thread_name_prefix="decode")
        calibrations = {}
        if config.calibration_source != "topic":
            calibrations = read_calibration_file(Path(config.calibration_file))
        builder_config = BuilderConfig(
            base_frame=config.base_frame,
            fixed_frame="" if config.motion_compensation == "off" else config.fixed_frame,
            motion_required=config.motion_compensation == "on",
            projection=config.projection,
            frame_ids={name: self.get_parameter(f"cameras.{name}.frame_id").value for name in cameras},
            tf_timeout_s=config.tf_timeout,
            min_cameras=sync_config.min_cameras,
        )
        warn = self.get_logger().warning
        builder = ObservationBuilder(cameras, builder_config, self._transforms, calibrations, self._pool, warn)
        warm_ms = warm_up(predictor, cameras, config.warmup_iterations)
        self._cameras = cameras
        self._inputs = CameraInputs(
            _Graph(self, config.qos_depth),
            topics,
            config.image_transport,
            config.qos_reliability,
            self._on_image,
            self._on_info,
        )
        self._make_publishers()
        self._pipeline = MapPipeline(builder, predictor)
        self.get_logger().info(f"model {predictor.info.model_id} is ready, warmed up at {warm_ms:.0f} ms per set")
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

    def _make_publishers(self) -> None:
        get = self._types.get
        overrides = QoSOverridingOptions.with_default_policies()
        make = functools.partial(self.create_publisher, qos_overriding_options=overrides)
        elements = make(get("hdmap_ros/msg/MapElementArray"), "~/output/map_elements", 1)
        markers = make(get("visualization_msgs/msg/MarkerArray"), "~/output/markers", 1)
        self._output = MapOutput(self._types, elements, markers, self._transforms)
        self._info_pub = self.create_publisher(get("hdmap_ros/msg/MapModelInfo"), "~/output/model_info", _LATCHED)
        self._diagnostics_pub = self.create_publisher(get("diagnostic_msgs/msg/DiagnosticArray"), "/diagnostics", 1)
        tf = get("tf2_msgs/msg/TFMessage")
        static_qos = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._tf_subs = [
            self.create_subscription(tf, "/tf", lambda message: self._transforms.add(message.transforms, False), 100),
            self.create_subscription(
                tf, "/tf_static", lambda message: self._transforms.add(message.transforms, True), static_qos
            ),
        ]
        self._own_services = [
            self.create_service(get("std_srvs/srv/SetBool"), "~/enable", self._on_enable),
            self.create_service(get("std_srvs/srv/Trigger"), "~/reset", self._on_reset),
        ]

    @_transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes to the cameras and starts the worker and the timers."""
        assert self._pipeline is not None
        self._worker = Worker(self._work, self._on_failure, self.config.max_failures)
        self._started_ns = time.monotonic_ns()
        self._inputs.open()
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # the node's clock stands still when a bag is paused
        self._timers_active = [
            self.create_timer(_POLL_S, self._poll, clock=steady),
            self.create_timer(_RECHECK_S, self._inputs.recheck, clock=steady),
            self.create_timer(self.config.diagnostics_period, self._publish_diagnostics, clock=steady),
        ]
        info = self._pipeline.predictor.info
        self._info_pub.publish(
            model_info_to_message(
                self._types,
                info,
                camera_names=self._cameras,
                stamp_ns=self._now_ns(),
                frame_id=self.config.output_frame,
                score_threshold=max(info.score_threshold, self.config.score_threshold),
            )
        )
        super().on_activate(state)
        topics = ", ".join(self._inputs.topics().values())
        self.get_logger().info(
            f"online_map active, model {info.model_id}, precision {info.precision}, images: {topics}"
        )
        return SUCCESS

    @_transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends subscriptions and worker; the model stays loaded."""
        self._stop()
        return super().on_deactivate(state)

    @_transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the model and the publishers."""
        self._release()
        return SUCCESS

    @_transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Everything, from any state."""
        self._release()
        return SUCCESS

    @_transition
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees everything, so that the node can be configured again."""
        self._release()
        return SUCCESS

    def _stop(self) -> None:
        for timer in self._timers_active:
            self.destroy_timer(timer)
        self._timers_active = []
        if self._worker is None:
            return
        self._inputs.close()
        if not self._worker.stop():
            self.get_logger().warning("the worker is still busy; its last map is lost")
        self._publish_diagnostics()
        if self.config.report_file:
            write_report(Path(self.config.report_file), self._report())
        self._output.clear(self._now_ns(), self.config.output_frame)
        self._worker = None

    def _release(self) -> None:
        self._stop()
        if self._pipeline is None:
            return
        for publisher in (self._output.elements, self._output.markers, self._info_pub, self._diagnostics_pub):
            self.destroy_publisher(publisher)
        for subscription in self._tf_subs:
            self.destroy_subscription(subscription)
        for service in self._own_services:
            self.destroy_service(service)
        self._pool.shutdown(wait=False)
        self._pipeline = None

    # The executor's thread: store, nothing else

    def _on_image(self, camera: str, message: Any) -> None:
        now_ns = time.monotonic_ns()
        self._inputs.arrived(camera, now_ns)
        stamp_ns = stamp_to_ns(message.header.stamp)
        if stamp_ns == 0:
            self._warn_slowly("zero_stamp", f"camera {camera}: images without a stamp; their time of arrival is used")
            stamp_ns = self._now_ns()
        self._sync.add(camera, message, now_ns, stamp_ns)
        resets = self._sync.synchronizer.statistics.resets
        if resets != self._resets:
            self._resets = resets
            self._forget("image stamps went back in time")

    def _on_info(self, camera: str, message: Any) -> None:
        assert self._pipeline is not None
        problem = self._pipeline.builder.add_camera_info(camera, message)
        if problem:
            self._warn_slowly(f"info_{camera}", problem)

    def _on_set(self, images: ImageSet) -> None:
        now_ns = time.monotonic_ns()
        config = self.config
        if self._worker is None or not self._enabled:
            self._counts["disabled"] += 1
        elif config.lazy and not self._output.wanted(config):
            self._counts["nobody_listens"] += 1
        elif config.max_rate and now_ns - self._last_job_ns < 0.9e9 / config.max_rate:
            self._counts["rate_limited"] += 1
        else:
            self._last_job_ns = now_ns
            self._worker.put(_Job(images, now_ns))

    def _poll(self) -> None:
        self._sync.poll(time.monotonic_ns())
        if self._worker is not None and self._worker.broken:
            self.get_logger().error(f"{self.config.max_failures} sets failed in a row; deactivating")
            self.trigger_deactivate()

    def reset(self, reason: str) -> None:
        """Forgets images and phases."""
        if self._worker is not None:
            self._sync.synchronizer.reset()
            self._forget(reason)

    def _forget(self, reason: str) -> None:
        self._counts["resets"] += 1
        if self._worker is not None:
            self._worker.clear()
        self._output.clear(self._now_ns(), self.config.output_frame)
        self.get_logger().info(f"reset: {reason}")

    def _on_enable(self, request: Any, response: Any) -> Any:
        self._enabled = request.data
        response.success, response.message = True, "enabled" if request.data else "disabled"
        return response

    def _on_reset(self, request: Any, response: Any) -> Any:
        self.reset("by service")
        response.success, response.message = True, "reset"
        return response

    # The worker's thread

    def _work(self, job: _Job) -> None:
        assert self._pipeline is not None
        config = self.config
        if config.max_set_age and time.monotonic_ns() - job.closed_ns > config.max_set_age * 1e9:
            self._counts["stale"] += 1
            return
        try:
            result = self._pipeline.process(job.images)
            begin = time.perf_counter()
            self._output.publish(result, config, self._pipeline.predictor.info)
        except NotReadyError as error:
            self._counts[error.state] += 1
            self._warn_slowly(error.state + error.camera, str(error))
            return
        except ImageError as error:
            self._counts["rejected_images"] += 1
            self._warn_slowly("image", str(error))
            return
        total_ms = (time.monotonic_ns() - job.closed_ns + job.images.waited_ns) * 1e-6
        self._latencies.add({**result.timings_ms, "publish": (time.perf_counter() - begin) * 1e3, "total": total_ms})
        for problem in list(self._pipeline.builder.image_errors.values()):
            self._warn_slowly("image" + problem[:40], problem)

    def _on_failure(self, error: Exception, in_a_row: int) -> None:
        self._counts["failed"] += 1
        trace = "".join(traceback.format_exception(error))
        self.get_logger().error(f"a set failed ({in_a_row} in a row): {trace}")
        if "out of memory" in str(error) and "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()

    # Reporting

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _warn_slowly(self, subject: str, message: str) -> None:
        """Logs a warning, at most every five seconds per subject."""
        now = time.monotonic()
        if now - self._warned.get(subject, -1e9) > 5.0:
            self._warned[subject] = now
            self.get_logger().warning(message)

    def _report(self) -> dict[str, Any]:
        assert self._pipeline is not None and self._worker is not None
        seconds = (time.monotonic_ns() - self._started_ns) * 1e-9
        return node_report(
            self._pipeline.predictor.info,
            self._sync.synchronizer.statistics,
            self._worker.statistics,
            self._counts,
            self._output,
            self._latencies.summary(),
            self._inputs.received,
            seconds,
        )

    def _publish_diagnostics(self) -> None:
        if self._pipeline is None or self._worker is None:
            return
        builder, now_ns = self._pipeline.builder, time.monotonic_ns()
        states = self._inputs.states(now_ns, round(self.config.stale_after * 1e9), builder.camera_states)
        statuses = node_statuses(
            self._report(), states, builder.image_errors, builder.motion_compensated, self._worker.broken, self.config
        )
        self._diagnostics_pub.publish(
            to_message(
                self._types,
                statuses,
                self._now_ns(),
                self.get_fully_qualified_name().lstrip("/"),
                self._pipeline.predictor.info.model_id,
            )
        )
        if any(state in _SILENT for state in states.values()):
            topics = self._inputs.topics()
            silent = [f"{topics[name]} ({state})" for name, state in states.items() if state in _SILENT]
            self._warn_slowly("silent", "waiting for images: " + ", ".join(silent))


class _Graph:
    """What CameraInputs needs, by rclpy."""

    def __init__(self, node: OnlineMapNode, depth: int) -> None:
        self._node = node
        self._depth = depth
        self._types = graph_types()

    def subscribe(self, kind: str, topic: str, callback: Callable[[Any], None], reliable: bool) -> Any:
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT

        def incompatible(event: Any) -> None:
            asked = "reliable" if reliable else "best effort"
            self.warn(
                f"{topic}: a publisher's QoS does not fit ({event.last_policy_kind}); asked for {asked}, depth "
                f"{self._depth}; change input_qos.reliability"
            )

        return self._node.create_subscription(
            self._types.get(kind),
            topic,
            callback,
            QoSProfile(depth=self._depth, reliability=reliability),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=incompatible),
        )

    def unsubscribe(self, subscription: Any) -> None:
        self._node.destroy_subscription(subscription)

    def publishers(self, topic: str) -> list[tuple[str, bool]]:
        found = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(topic))
        return [(info.node_name, info.qos_profile.reliability == ReliabilityPolicy.RELIABLE) for info in found]

    def warn(self, message: str) -> None:
        self._node.get_logger().warning(message)


def load_model(config: OnlineMapConfig) -> Predictor:
    """The predictor that the parameters name.

    Raises:
        CheckpointError: if there is no such checkpoint or it is not ours.
    """
    from hdmap_core.checkpoint import find_checkpoint
    from hdmap_core.inference import default_weights
    from hdmap_core.inference.predictor import load_predictor

    if config.threads:
        import torch

        torch.set_num_threads(config.threads)
    path = find_checkpoint(Path(config.weights).expanduser()) if config.weights else default_weights()
    return load_predictor(path, config.device, None if config.precision == "auto" else config.precision)


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
        try:
            node = OnlineMapNode(load)
        except (HdmapError, ParameterException) as error:
            rclpy.logging.get_logger("online_map").error(str(error))
            return 1
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        started = not node.config.autostart or (
            node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
        )
        while started and not stopping:
            executor.spin_once(timeout_sec=0.2)
        node.trigger_shutdown()
        executor.shutdown()
        node.destroy_node()
        return 0 if started else 1
    finally:
        rclpy.try_shutdown()


def main() -> None:
    """`python -m hdmap_ros.online_map_node --ros-args -p model.weights:=FILE --params-file FILE`."""
    sys.exit(run(load_model))


if __name__ == "__main__":
    main()
