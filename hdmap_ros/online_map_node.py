"""The ROS 2 node: six cameras in, a vectorised map out.

Parameters, life cycle, topics and services; what happens to the images is `map_session`. See docs/ros.md.
"""

if __name__ == "__main__":  # the imports below take a second or two; a signal meanwhile is an end like any other
    import os
    import signal

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os._exit(0))

import functools
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hdmap_core.required_packages import NODE, exit_without_ros_or

if __name__ == "__main__":  # ahead of the imports that would end in a traceback
    exit_without_ros_or(NODE)

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from hdmap_core.errors import HdmapError, OutputError
from hdmap_ros import stop_signals
from hdmap_ros.diagnostics import to_message
from hdmap_ros.map_session import MapSession
from hdmap_ros.message_types import graph_types
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.node_parameters import declare_cameras, declare_parameters, is_change, read_config, read_topics, refusal
from hdmap_ros.node_report import write_report
from hdmap_ros.observing.camera_inputs import CameraInputs
from hdmap_ros.observing.lidar_sweeps import RecentSweeps
from hdmap_ros.observing.transforms import TransformBuffer
from hdmap_ros.output.conversions import model_info_to_message
from hdmap_ros.output.local_map_output import LocalMapOutput
from hdmap_ros.output.map_memory import MapMemory
from hdmap_ros.output.map_output import MapOutput
from hdmap_ros.output.pictures import Pictures
from hdmap_ros.pipeline import MapPipeline, Predictor, check_cameras, warm_up
from hdmap_ros.ros_graph import Endpoints, RosGraph, make_executor, watch_clock
from hdmap_ros.session_parts import camera_pool, load_model, make_builder, sync_config_of
from hdmap_ros.sync.policies import make_synchronizer

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE
_POLL_S, _RECHECK_S, _SPIN_S = 0.02, 0.25, 0.1
_PATIENCE_S = 0.5  # for the worker's last map, where the process is about to end


def _transition(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Logs what goes wrong in a transition; rclpy would swallow it. What a user can mend is FAILURE, the rest ERROR."""

    @functools.wraps(callback)
    def guarded(self: "OnlineMapNode", state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(self, state)
        except (HdmapError, ParameterException) as error:
            self.log("error", str(error))
            return FAILURE
        except stop_signals.Stopped:
            self.log("info", "stopped before the model was ready")
            return FAILURE
        except Exception:
            self.log("error", traceback.format_exc())
            return TransitionCallbackReturn.ERROR

    return guarded


class OnlineMapNode(LifecycleNode):
    """See the module's docstring. `load` makes the predictor from the config; `stopping` ends the wait for it.

    Attributes:
        config: the parameters as they are now.
        session: what is loaded; None unless configured.
        was_shut_down: whether somebody asked for the transition `shutdown`.
    """

    def __init__(
        self,
        load: Callable[[OnlineMapConfig], Predictor],
        name: str = "online_map",
        stopping: Callable[[], Any] = lambda: False,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self._load = load
        self._stopping = stopping
        self.session: MapSession | None = None
        self.was_shut_down = False
        self._active_timers: list[Any] = []
        declare_parameters(self)
        self.config = read_config(self)
        declare_cameras(self, self.config.camera_names)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._take_parameters)
        change = self._service_change_state
        change.callback = functools.partial(self._change_state, change.callback)
        self._jumps = watch_clock(self, self.config.time_jump_reset, self._on_jump)

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

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """As rclpy's, for values that change something: loading back a dump is no error, read-only ones included."""
        return super().set_parameters_atomically([each for each in parameter_list if is_change(self, each)])

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            too_late = self.session is not None and is_change(self, parameter)
            if reason := refusal(parameter.name, parameter.value, too_late):
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _take_parameters(self, parameters: list[Parameter]) -> None:
        self.config = read_config(self)
        with suppress(ParameterException):  # a parameter file's value of a wrong type; told when it is configured
            declare_cameras(self, self.config.camera_names)
        if self._active_timers and any(parameter.name == "score_threshold" for parameter in parameters):
            self._publish_info()

    # Transitions

    def _change_state(self, change: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:
        """The service; a transition that the present state does not have would end the process by an exception."""
        try:
            return change(request, response)
        except RuntimeError as error:  # rclpy's RCLError
            self.log("warning", f"transition refused: {str(error).splitlines()[0]}")
            response.success = False
            return response

    @property
    def finalized(self) -> bool:
        """Whether the life cycle has ended; nothing leads out of this state."""
        label: str = self._state_machine.current_state[1]
        return label == "finalized"

    @_transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the model, warms it up, makes publishers and listens to TF."""
        config, cameras = self.config, self.config.camera_names
        topics = read_topics(self, config)
        synchronizer = make_synchronizer(config.sync_policy, sync_config_of(config))
        transforms = TransformBuffer()
        self._pool = camera_pool(len(cameras))
        warn = functools.partial(self.log, "warning")
        builder = make_builder(config, topics, transforms, self._pool, warn)
        self.log("info", "loading the model; this takes some seconds")
        predictor = stop_signals.beside(lambda: self._load(config), self._stopping)
        check_cameras(predictor.info, cameras)
        warm_ms = stop_signals.beside(lambda: warm_up(predictor, cameras, config.warmup_iterations), self._stopping)
        self._endpoints = ends = Endpoints(self, transforms, self._on_enable, self._on_reset)
        pictures = Pictures(graph_types(), ends.image, ends.compressed, ends.mask)
        output = MapOutput(graph_types(), ends.elements, ends.markers, transforms, pictures)
        reach = config.local_map_reach if config.local_map_enabled else 0.0
        memory = MapMemory(predictor.info, transforms, config.base_frame, config.fixed_frame, reach, warn)
        local_map = LocalMapOutput(graph_types(), memory, ends.local_map, ends.local_map_markers)
        session = MapSession(self, MapPipeline(builder, predictor), synchronizer, output, local_map)
        graph, transport, reliability = RosGraph(self, config.qos_depth), config.image_transport, config.qos_reliability

        def on_image(camera: str, message: Any) -> None:
            if session.worker is None:
                return  # closed, but what had come is still handed on
            self._endpoints.take_transforms()
            session.on_image(camera, message)

        lidar = None
        if config.lidar_topic:
            sweeps = RecentSweeps(
                config.lidar_topic, transforms, config.base_frame, builder.config.fixed_frame, builder.problems
            )
            lidar, builder.sweep_at = (config.lidar_topic, sweeps.add), sweeps.at
        session.inputs = CameraInputs(graph, topics, transport, reliability, on_image, session.on_info, lidar)
        self.session = session
        info = predictor.info
        ran = f"in {info.engine} ({info.engine_why}), warmed up at {warm_ms:.0f} ms per set"
        self.log("info", f"model {info.model_id} is ready {ran}")
        return SUCCESS

    @_transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes to the cameras and starts the worker and the timers."""
        session = self.session
        assert session is not None
        session.start()
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # the node's clock stands still when a bag is paused
        self._active_timers = [
            self.create_timer(_POLL_S, self._poll, clock=steady),
            self.create_timer(_RECHECK_S, self._recheck, clock=steady),
            self.create_timer(self.config.diagnostics_period, self._publish_diagnostics, clock=steady),
        ]
        self._publish_info()
        super().on_activate(state)
        info, topics = session.pipeline.predictor.info, ", ".join(session.inputs.topics().values())
        self.log("info", f"online_map active, {info.model_id}, {info.precision} on {info.device}, images: {topics}")
        return SUCCESS

    @_transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends subscriptions and worker; the model stays loaded."""
        self._stop()
        return super().on_deactivate(state)

    @_transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the model and the publishers: also after an error, to be configured again."""
        self._release()
        return SUCCESS

    on_error = on_cleanup

    @_transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees everything; `run` then ends the process."""
        self.was_shut_down = True
        self._release(_PATIENCE_S)
        return SUCCESS

    def destroy_node(self) -> None:
        """As rclpy's; an active node is stopped first, as its threads would outlive it."""
        self._release(_PATIENCE_S)
        self._jumps.unregister()
        super().destroy_node()

    def _stop(self, patience_s: float = 2.0) -> None:
        for timer in self._active_timers:
            self.destroy_timer(timer)
        self._active_timers = []
        if self.session is None or self.session.worker is None:
            return
        self._publish_diagnostics()
        report = self.session.stop(patience_s)
        if self.config.report_file:
            try:
                write_report(self.config.report_file, report)
            except OutputError as error:  # a full disk must not keep the node from stopping
                self.log("error", str(error))

    def _release(self, patience_s: float = 2.0) -> None:
        try:
            self._stop(patience_s)
        finally:
            if self.session is not None:
                self.session = None
                self._endpoints.close()
                self._pool.shutdown(wait=False)

    # Timers and services

    def _poll(self) -> None:
        if self.session is None:
            return
        self.session.poll()
        if self.session.broken:
            self.log("error", f"{self.config.max_failures} sets failed in a row; deactivating")
            self.trigger_deactivate()

    def _recheck(self) -> None:
        if self.session is not None and self.session.recheck():
            self._publish_diagnostics()

    def _publish_diagnostics(self) -> None:
        if self.session is None or self.session.worker is None:
            return
        name = self.get_fully_qualified_name().lstrip("/")
        statuses, model_id = self.session.statuses(), self.session.pipeline.predictor.info.model_id
        self._endpoints.diagnostics.publish(to_message(graph_types(), statuses, self.now_ns(), name, model_id))

    def _publish_info(self) -> None:
        session = self.session
        assert session is not None
        info, names = session.pipeline.predictor.info, session.pipeline.builder.cameras
        frame, least = self.config.base_frame, self.config.score_threshold
        message = model_info_to_message(
            graph_types(), info, camera_names=names, stamp_ns=self.now_ns(), frame_id=frame, score_threshold=least
        )
        self._endpoints.model_info.publish(message)

    def _on_jump(self, went_back: bool) -> None:
        if self.session is not None:
            if went_back:
                self.session.pipeline.builder.transforms.forget_after(self.now_ns())
            self.session.reset("clock")

    def _on_enable(self, request: Any, response: Any) -> Any:
        if self.session is not None:
            self.session.enabled = request.data
        response.success, response.message = True, "enabled" if request.data else "disabled"
        return response

    def _on_reset(self, request: Any, response: Any) -> Any:
        if self.session is not None:
            self.session.reset("by service")
        response.success, response.message = True, "reset"
        return response


def run(load: Callable[[OnlineMapConfig], Predictor], arguments: list[str] | None = None) -> int:
    """Runs the node until SIGINT, SIGTERM or the transition `shutdown`; closes everything it opened.

    Returns:
        Exit code: 0 after a signal or a shutdown, 1 if the node could not start or its life cycle ended by an error.
    """
    stopping = stop_signals.note()
    try:
        # Own handlers: rclpy's shut the context down at once, and the last messages could not be sent any more.
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        node = OnlineMapNode(load, stopping=lambda: stopping)
    except (HdmapError, ParameterException, RuntimeError) as error:  # RuntimeError: rclpy's, of ROS arguments
        rclpy.logging.get_logger("online_map").error(str(error))
        rclpy.try_shutdown()
        return 1
    executor = make_executor(kind=node.config.executor)
    executor.add_node(node)
    started = not node.config.autostart or (node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS)
    while started and not stopping and not node.finalized:
        executor.spin_once(timeout_sec=_SPIN_S)
    code = 0 if stopping or node.was_shut_down else 1
    if not node.finalized:
        node.trigger_shutdown()
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
    return code


def main() -> None:
    """`python -m hdmap_ros.online_map_node --ros-args --params-file FILE -p model.weights:=FILE`."""
    stop_signals.leave(run(load_model))


if __name__ == "__main__":
    main()
