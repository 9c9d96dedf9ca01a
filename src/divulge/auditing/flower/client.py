"""The client as a Flower app: the code of `divulge.training.federated`, behind Flower's messages."""

import json
from pathlib import Path
from typing import Any

from divulge.auditing.flower.deployment import Deployment
from divulge.training.federated.capture import Capture, written
from divulge.training.federated.client import batches, client_seed, replayable, respond


def client_app() -> Any:
    """A `flwr.clientapp.ClientApp` for the deployment that the run's `settings` name; its node says `partition-id`."""
    from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        deployment = Deployment.read(Path(str(context.run_config["settings"])))
        number = int(str(message.content.config_records["config"]["server-round"]))
        client = int(str(context.node_config["partition-id"]))
        federation, seed, defense = deployment.federation, deployment.seed, deployment.defended()
        everyone = deployment.records()
        own, model = everyone[deployment.clients(everyone)[client]], deployment.model(everyone)
        model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
        plan = batches(len(own), federation, seed=client_seed(seed, number, client, "order"))
        answer = respond(
            model.train(),
            own.inputs,
            own.targets,
            plan,
            federation,
            lr=federation.pace(number),
            share=defense.share if defense.in_sharing else None,
            seed=client_seed(seed, number, client, "draw"),
        )
        tensors, facts = written([Capture(number, client, {}, answer.record, replayable(plan))])
        reply: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = {
            "record": ArrayRecord(tensors),
            "buffers": ArrayRecord(answer.buffers),
            "facts": ConfigRecord({"json": json.dumps(facts)}),
            "metrics": MetricRecord({"num-examples": len(own), "loss": answer.loss}),
        }
        return Message(RecordDict(reply), reply_to=message)

    return app
