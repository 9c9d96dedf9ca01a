"""The main job: plan, controls, verdict."""
