"""The supervisor of one recommender's processes. In each turn it compares them with the desired state."""

from __future__ import annotations

import threading
import time

from endcap.deploy.state import Deployment, Target
from endcap.errors import EndcapError
from endcap.experiments.operations import ArmSources, PageReader
from endcap.rollout.request_watcher import GuardrailWatcher
from endcap.store import Store
from endcap_serving.gateway import fallback
from endcap_serving.gateway.access.settings import AccessSettings, make_local_settings, require_access
from endcap_serving.gateway.admin import SOCKET
from endcap_serving.gateway.clusters import name_counts, name_with_fallback
from endcap_serving.gateway.pseudonyms import ShopperLogging
from endcap_serving.gateway.routes import TOTAL_WEIGHT, Split, Upstream
from endcap_serving.local.challengers import ChallengerProcesses
from endcap_serving.local.desired_state import DesiredState
from endcap_serving.local.envoy_process import EnvoyProcess
from endcap_serving.local.events import (
    AccessNotFollowed,
    ChallengerShare,
    GatewayNotRestarted,
    Listener,
    ListFailed,
    PredictorEnded,
    RoutesChanged,
    ServingEvent,
    StateUnreadable,
    StillLoading,
)
from endcap_serving.local.gateway import LocalGateway
from endcap_serving.local.intake_process import IntakeProcess, has_pseudonyms
from endcap_serving.local.log_rotation import LogRotator, RotationSettings
from endcap_serving.local.predictors import PredictorProcess, VariantProcesses
from endcap_serving.local.process import end_processes
from endcap_serving.local.retries import RetriedParts
from endcap_serving.local.rollout_loop import RolloutLoop
from endcap_serving.local.run_folder import make_run_folder, restore_folder

TICK = 0.1
"""Seconds between two turns."""
DRAIN_LEAST, DRAIN_MOST = 0.5, 30.0
"""Seconds that a predictor runs on after the gateway stopped sending requests to it: at least until new routes have
reached Envoy's worker, at most for answers that take long."""


class Supervisor:
    """The processes of one recommender.

    Call `start` once, `step` again and again, and `close` in any case, all from one thread. Errors of `start` are
    raised. Later errors go to the listener, and what failed is tried again.

    Parameters
    ----------
    store
        The store with the desired state and the packages.
    recommender
        The recommender's name.
    host, port
        Where the gateway listens. Port 0: any free port.
    listener
        Gets the events.
    shoppers
        What the access log says of a shopper.
    rotation
        When logs are rotated; None: the usual sizes.
    settings
        Who may do what; None: what `make_local_settings` makes for the host.

    Raises
    ------
    NotFoundError
        Nothing is deployed.
    UserError
        The access policy cannot be used.
    StorageError
        The run's folder cannot be made.
    """

    def __init__(
        self,
        store: Store,
        recommender: str,
        host: str,
        port: int,
        listener: Listener,
        shoppers: ShopperLogging = "plain",
        rotation: RotationSettings | None = None,
        settings: AccessSettings | None = None,
    ) -> None:

        self._store, self._recommender = store, recommender
        self._host, self._shoppers = host, shoppers
        self._settings = settings or make_local_settings(host)
        self._access = require_access(self._settings)
        self._parts = RetriedParts(listener)
        self._desired = DesiredState(store, recommender)
        # The state that is routed by. It stays the old one until the stable version of a new state is ready.
        self._effective = self._desired.deployment
        self.folder = make_run_folder(store, recommender)
        self._logs = LogRotator(self.folder, rotation or RotationSettings())
        self._stable, self._canary, self._previous, self._baseline, self._shadow = (
            self._make_variant(name) for name in ("stable", "canary", "previous", "baseline", "shadow")
        )
        self._challengers = ChallengerProcesses(self._make_variant)
        self._fallback = fallback.ListServer(
            lambda: {recommender: self._effective.gateway_terms}, lambda: self._intake.pseudonymiser
        )
        self._intake = IntakeProcess(store, recommender, self.folder, self.send_event)
        self._gateway = LocalGateway(port, self._start_envoy, self.send_event)
        self._draining: list[tuple[PredictorProcess, float]] = []

    @property
    def address(self) -> str:
        """The gateway's URL. Raises EndcapError if the gateway has not started."""
        if self._gateway.envoy is None:
            raise EndcapError(
                "the gateway has not started yet", code="serving.not-started", recommender=self._recommender
            )
        return self._gateway.envoy.address

    def send_event(self, event: ServingEvent) -> None:
        """Send an event to the listener. Raises nothing once versions are served."""
        self._parts.send_event(event)

    def start(self, stop: threading.Event) -> None:
        """Start everything. Returns when the stable version answers, or popularity if the switch is thrown. The other
        arms and the intake answer as well then, or have failed.

        Parameters
        ----------
        stop
            If it is set, `start` returns at once.

        Raises
        ------
        EndcapError
            The stable version or the gateway cannot be started.
        """
        start_time = last_event = time.monotonic()
        while not stop.wait(TICK):
            self.step()
            state = self._desired.deployment
            if self._stable.error and state.switch is None:
                raise self._make_version_error(self._stable.error)
            arms = (
                (state.canary, self._canary),
                (state.previous, self._previous),
                (state.popularity, self._baseline),
            )
            are_settled = all(target is None or arm.current or arm.error for target, arm in arms)
            are_settled = are_settled and self._challengers.are_settled(state.ab)
            if self._gateway.envoy and are_settled and (self._intake.is_settled or not self._intake.is_started):
                self._parts.is_serving = True
                return
            if time.monotonic() - last_event > 5:
                last_event = time.monotonic()
                self.send_event(StillLoading(round(last_event - start_time, 1)))

    def step(self) -> None:
        """Take one turn: compare everything with the desired state, and change what differs. Does not wait for
        predictors."""
        run_part = self._parts.run_part
        run_part("the run's folder", lambda: restore_folder(self.folder))
        run_part("the desired state", self._desired.refresh, StateUnreadable, lenient=True)
        run_part("the predictors", self._reconcile_predictors)
        run_part("the list server", self._restart_list)
        run_part("the intake", self._reconcile_intake)
        run_part("the gateway", self._reconcile_gateway, GatewayNotRestarted)
        run_part("the access policy", self._apply_access, AccessNotFollowed)
        run_part("the routes", self._route)
        run_part("the predictors that leave", self._end_drained)
        run_part("the logs", lambda: self._logs.reconcile(self._gateway.find_reopen))

    def make_rollout_loop(self) -> RolloutLoop:
        """Make the loop that drives the recommender's rollouts."""
        watcher = GuardrailWatcher(self._store, self._list_sources, PageReader())
        return RolloutLoop(self._store, self._recommender, self.send_event, watcher)

    def _list_sources(self) -> dict[str, ArmSources]:
        """List the arms that answer at this moment, and where they are counted."""
        variants = {"stable": self._stable, "canary": self._canary, "previous": self._previous}
        running: dict[str, PredictorProcess] = {
            name: variant.current for name, variant in variants.items() if variant.current is not None
        }
        running |= self._challengers.find_running()
        has_list = self._effective.gateway_terms.offers_list
        gateways = (f"unix:{self.folder / 'gateway' / SOCKET}",)
        return {
            name: ArmSources(
                version=predictor.target.version,
                predictors=(f"http://127.0.0.1:{predictor.upstream.port}",),
                gateways=gateways,
                cluster=name_counts(name_with_fallback(predictor.upstream) if has_list else predictor.upstream.name),
            )
            for name, predictor in running.items()
        }

    def close(self) -> None:
        """End all processes. Returns when all have ended."""
        variants = (self._stable, self._canary, self._previous, self._baseline, self._shadow)
        predictors = [
            predictor for variant in variants for predictor in (variant.current, variant.starting) if predictor
        ]
        predictors += [*self._challengers.list_predictors(), *(predictor for predictor, _ in self._draining)]
        gateway = self._gateway.envoy.process if self._gateway.envoy else None
        processes = [*(predictor.process for predictor in predictors), self._intake.process, gateway]
        end_processes([process for process in processes if process])
        for predictor in predictors:
            predictor.watchdog.close()
        self._intake.close()
        self._gateway.close()
        self._fallback.close()

    def _reconcile_predictors(self) -> None:
        """Have the predictors follow the desired state, the stable version first."""
        deployment = self._desired.deployment
        replaced = [*self._bring_back(deployment.stable), *self._stable.reconcile(deployment.stable)]
        if self._stable.is_serving(deployment.stable) or deployment.switch is not None:
            # Whoever switches to popularity does not wait for a version, which may be broken.
            self._effective = deployment
        self._start_draining(self._keep_previous(replaced))
        self._start_draining(self._canary.reconcile(self._effective.canary))
        self._start_draining(self._previous.reconcile(self._effective.previous))
        self._start_draining(self._challengers.reconcile(self._effective.ab))
        self._start_draining(self._baseline.reconcile(self._effective.popularity))
        self._start_draining(self._shadow.reconcile(self._effective.shadow))

    def _bring_back(self, stable: Target) -> list[PredictorProcess]:
        """Give everyone to the previous version's predictor at once, if that version is to be the stable one again.

        Returns the predictors that it replaces.
        """
        if self._stable.is_serving(stable) or (predictor := self._previous.release(stable)) is None:
            return []
        replaced = self._stable.adopt(predictor)
        return [replaced] if replaced else []

    def _keep_previous(self, replaced: list[PredictorProcess]) -> list[PredictorProcess]:
        """Have a replaced predictor of the version before go on for the previous version's share.

        Its shoppers meet no other version meanwhile, as they would while a new predictor starts. Returns the other
        replaced predictors.
        """
        target = self._effective.previous
        if target is None or self._previous.is_serving(target):
            return replaced
        target = Target(version=target.version, package=target.package)
        kept = next((predictor for predictor in replaced if predictor.target == target), None)
        if kept is None:
            return replaced
        before = self._previous.adopt(kept)
        return [*(predictor for predictor in replaced if predictor is not kept), *([before] if before else [])]

    def _restart_list(self) -> None:
        """Start the list server's thread again, if it has ended."""
        if not self._fallback.alive:
            self._fallback.restart()
            self.send_event(ListFailed())

    def _reconcile_intake(self) -> None:
        """Keep the intake running, once a package says the shop's name."""
        variants = (self._stable, self._baseline, self._canary, self._previous)
        running = [variant.current for variant in variants if variant.current is not None]
        if self._stable.current or self._baseline.current:
            running += self._challengers.find_running().values()
            self._intake.reconcile([predictor.package for predictor in running])

    def _reconcile_gateway(self) -> None:
        """Keep Envoy running, once there is something to route to."""
        split = self._compute_split()
        if split is not None and self._gateway.reconcile(split):
            self.send_event(_make_routes_event(split, self._effective, self._stable))

    def _route(self) -> None:
        """Give Envoy the split of this moment, if it is another one."""
        split = self._compute_split()
        if split is not None and self._gateway.route(split, [predictor.upstream for predictor, _ in self._draining]):
            self.send_event(_make_routes_event(split, self._effective, self._stable))

    def _apply_access(self) -> None:
        """Have Envoy follow the access policy. Raises EndcapError if the newest one cannot be used."""
        access = self._settings.access or self._access
        if access != self._access:
            if self._gateway.envoy is not None:
                self._gateway.envoy.apply_access(access)
            # Only now, so that Envoy gets the whole policy again if it did not take all of it, such as a removed key.
            self._access = access
        if self._settings.error is not None:
            raise self._settings.error

    def _start_envoy(self, port: int, split: Split) -> EnvoyProcess:
        """Start an Envoy. Raises EndcapError or OSError."""
        return EnvoyProcess(
            self.folder / "gateway",
            self._host,
            port,
            self._recommender,
            split,
            fallback_port=self._fallback.port,
            intake=self._intake.upstream,
            shoppers=self._choose_logging(),
            access=self._settings.access or self._access,
        )

    def _choose_logging(self) -> ShopperLogging:
        """Return what the access log says of a shopper: never an id that the shop's data do not have either."""
        predictor = self._stable.current or self._baseline.current
        if self._shoppers == "plain" and predictor is not None and has_pseudonyms(predictor.package):
            return "pseudonym"
        return self._shoppers

    def _make_variant(self, name: str) -> VariantProcesses:
        """Make the processes of a variant."""

        def start(target: Target) -> PredictorProcess:
            return PredictorProcess(self._recommender, name, target, self._store, self.folder)

        return VariantProcesses(name, start, self.send_event)

    def _compute_split(self) -> Split | None:
        """Compute the split of the predictors that answer at this moment; None before there is one.

        If the canary, the previous version, a challenger or the baseline has failed, its shoppers get the stable
        version until it is back. If the stable version has failed, its shoppers do not get the canary, which is still
        on trial: the routes stay, and the list answers.
        """
        stable, state = self._stable.current, self._effective
        if stable is None and state.switch is None:
            return self._gateway.split
        canary, shadow = _find_upstream(self._canary, state.canary), _find_upstream(self._shadow, state.shadow)
        previous = _find_upstream(self._previous, state.previous)
        # Popularity by the champion before goes on until that by the new one is ready: its shoppers meet no version.
        running = self._baseline.current if state.popularity else None
        baseline = running.upstream if running else None
        return Split(
            stable.upstream if stable else None,
            canary,
            state.canary.share if canary and state.canary else 0.0,
            state.salt,
            shadow,
            state.shadow.share if shadow and state.shadow else 0.0,
            state.gateway_terms,
            previous,
            state.previous.share if previous and state.previous else 0.0,
            baseline,
            state.baseline.share if baseline and state.baseline else 0.0,
            popularity_only=state.switch is not None,
            challengers=self._challengers.find_upstreams(state.ab),
            layout=state.ab.layout if state.ab else None,
        )

    def _start_draining(self, predictors: list[PredictorProcess]) -> None:
        """Note predictors that get no new requests from now on."""
        self._draining += [(predictor, time.monotonic()) for predictor in predictors]

    def _end_drained(self) -> None:
        """End predictors that get no new requests, once they have answered the old ones."""
        envoy, split = self._gateway.envoy, self._gateway.split
        if envoy is None or split is None:
            return
        for draining in list(self._draining):
            predictor, drain_start = draining
            drain_time = time.monotonic() - drain_start
            if drain_time < DRAIN_LEAST or predictor.upstream in split.upstreams:
                continue
            if envoy.count_active_requests(predictor.upstream) and drain_time < DRAIN_MOST:
                continue
            self._draining.remove(draining)
            predictor.end()
            self.send_event(PredictorEnded(predictor.target.version, predictor.process.name))
            # Envoy may drop the predictor's cluster now. If Envoy has failed, the next one never had it.
            self._gateway.apply(split, [predictor.upstream for predictor, _ in self._draining])

    def _make_version_error(self, cause: EndcapError) -> EndcapError:
        """Make the error for a stable version that cannot be served."""
        version = self._desired.deployment.stable.version
        return EndcapError(
            f"{self._recommender} version {version} cannot be served: {cause}",
            code="serving.version-failed",
            recommender=self._recommender,
            version=version,
            cause=cause.to_json(),
        )


def _find_upstream(variant: VariantProcesses, target: Target | None) -> Upstream | None:
    """Find where a variant answers; None if it does not serve the target."""
    return variant.current.upstream if target and variant.current and variant.is_serving(target) else None


def _make_routes_event(split: Split, state: Deployment, stable: VariantProcesses) -> RoutesChanged:
    """Make the event of a new split."""
    return RoutesChanged(
        stable.current.target.version if stable.current else state.stable.version,
        state.canary.version if split.canary and state.canary else None,
        split.share,
        state.shadow.version if split.shadow and state.shadow else None,
        split.shadow_share,
        state.previous.version if split.previous and state.previous else None,
        split.previous_share,
        split.baseline_share,
        split.popularity_only,
        _describe_challengers(split, state),
    )


def _describe_challengers(split: Split, state: Deployment) -> tuple[ChallengerShare, ...]:
    """Describe the challengers that answer."""
    arms = state.ab.arms if state.ab else {}
    return tuple(
        ChallengerShare(arm, arms[arm].version, split.weights.weigh(arm) / TOTAL_WEIGHT)
        for arm in arms
        if split.weights.weigh(arm)
    )
