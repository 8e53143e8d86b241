"""Modules with the documented interface of wandb and mlflow that keep what they are given."""

import types


def fake_wandb(calls):
    """Returns a module `wandb`: `init` → a run with `log`, `summary` and `finish`."""

    class Error(Exception):
        pass

    class Image:
        def __init__(self, data):
            self.shape = data.shape

    class Run:
        def __init__(self):
            self.summary = {}

        def log(self, data, step=None, commit=None):
            calls.append(("log", step, data))

        def finish(self, exit_code=None):
            calls.append(("finish", exit_code, dict(self.summary)))

    def init(*, project=None, group=None, name=None, dir=None, config=None, mode=None):
        if mode not in ("online", "offline", "disabled"):
            raise Error(f"no mode {mode}\nmore")
        calls.append(("init", mode, {"project": project, "group": group, "name": name, "dir": dir, "config": config}))
        return Run()

    module = types.ModuleType("wandb")
    module.Error, module.Image, module.init = Error, Image, init
    return module


def fake_mlflow(calls, *, active=None):
    """Returns a module `mlflow` with its fluent interface."""

    class MlflowException(Exception):
        pass

    def start_run(run_id=None, experiment_id=None, run_name=None):
        if run_name == "refused":
            raise MlflowException("no server")
        calls.append(("start_run", run_name))

    def log_params(params):
        assert all(isinstance(value, str) and len(value) <= 500 for value in params.values())
        calls.append(("log_params", params))

    def log_metrics(metrics, step=None):
        for name in metrics:
            if set(name) & set("@:"):
                raise MlflowException(f"invalid name {name}")
        calls.append(("log_metrics", step, metrics))

    module = types.ModuleType("mlflow")
    module.MlflowException = MlflowException
    module.active_run = lambda: active
    module.start_run, module.log_params, module.log_metrics = start_run, log_params, log_metrics
    module.end_run = lambda status="FINISHED": calls.append(("end_run", status))
    return module
