"""The server as a Flower app: federated averaging by a strategy that keeps what it receives."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from divulge.auditing.flower.deployment import Deployment
from divulge.auditing.flower.saved import save_captures
from divulge.errors import BadInputError
from divulge.training.federated import server
from divulge.training.federated.capture import read

ENDED = "ended.json"
"""Written into the folder of a run when its server is done, whether or not it got through."""


def server_app() -> Any:
    """A `flwr.serverapp.ServerApp` for the deployment that the run's `settings` name; it writes beside that file."""
    from flwr.app import ArrayRecord, Context
    from flwr.serverapp import Grid, ServerApp

    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        settings = Path(str(context.run_config["settings"]))
        deployment = Deployment.read(settings)
        folder, through = settings.parent, False
        try:
            model = deployment.model(deployment.records())
            strategy = audit_strategy(deployment, model, folder)
            strategy.start(
                grid=grid,
                initial_arrays=ArrayRecord(model.state_dict()),
                num_rounds=deployment.federation.rounds,
                timeout=float(str(context.run_config["timeout"])),
            )
            through = True
        finally:
            partial = folder / f"{ENDED}.partial"
            partial.write_text(json.dumps({"through": through}))
            partial.replace(folder / ENDED)

    return app


def audit_strategy(deployment: Deployment, model: nn.Module, folder: Path) -> Any:
    """A Flower strategy that averages as `fit_federated` does and saves each client's record into `folder`.

    It sees no more than any server does: the weights that it sends and what clients answer. A round that a client fails
    in ends the run.

    Args:
        deployment: what is run.
        model: the server's, with the weights to start from; trained in place.
        folder: where `save_captures` writes.
    """
    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import FedAvg

    federation = deployment.federation

    class Audit(FedAvg):
        def configure_train(
            self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
        ) -> Iterable[Message]:
            self.sent = arrays.to_torch_state_dict()
            return super().configure_train(server_round, arrays, config, grid)

        def aggregate_train(
            self, server_round: int, replies: Iterable[Message]
        ) -> tuple[ArrayRecord | None, MetricRecord | None]:
            answers, failed = [], []
            for reply in replies:
                if reply.has_error():
                    failed.append(str(reply.error.reason))
                    continue
                content = reply.content
                tensors = content.array_records["record"].to_torch_state_dict()
                (capture,) = read(tensors, json.loads(str(content.config_records["facts"]["json"])))
                answers.append((replace(capture, public=self.sent), content))
            if len(answers) < federation.clients:
                raise BadInputError(
                    f"federation: expected answers of all {federation.clients} clients in round {server_round}, got "
                    f"{len(answers)}. {' '.join(failed)}"
                )
            answers.sort(key=lambda answer: answer[0].client)
            if not deployment.capture or server_round in deployment.capture:
                save_captures([capture for capture, _ in answers], folder)
            kept = [
                (capture.record, content)
                for capture, content in answers
                if server.finite(capture.record.gradients, content.array_records["buffers"].to_torch_state_dict())
            ]
            if not kept:
                raise BadInputError(f"federation: no client gave a finite answer in round {server_round}.")
            sizes = [float(str(content.metric_records["metrics"]["num-examples"])) for _, content in kept]
            weights = sizes if federation.weighting == "size" else [1.0] * len(kept)
            mean = server.mean([record.gradients for record, _ in kept], weights)
            buffers = server.mean(
                [content.array_records["buffers"].to_torch_state_dict() for _, content in kept], weights
            )
            server.move(model, mean, buffers, lr=federation.pace(server_round))
            told = MetricRecord({"answers": len(answers), "dropped": len(answers) - len(kept)})
            return ArrayRecord(model.state_dict()), told

    clients = federation.clients
    return Audit(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
