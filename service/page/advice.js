// A model's trouble in words, and the operator's next step.

import { count, seconds, shortName } from "./format.js";

const WAIT_SECONDS = 5;
const LOAD_SECONDS = 120;

const DEATHS = [
  [/CUDA out of memory|CUDA error: out of memory|OutOfMemoryError|free memory on device|No available memory for the cache/i, "The GPU does not have the memory that the model asks for. nvidia-smi shows what else uses it. Lower gpu_memory_utilization or max_model_len in models.toml, or unload another model."],
  [/SIGKILL|out of memory|OOM/i, "The kernel's log names the process that it killed (journalctl -k). Lower gpu_memory_utilization or max_model_len in models.toml, or give the machine more memory."],
  [/SIGSEGV|SIGABRT|SIGBUS|SIGILL/i, "This is a crash in native code. The engine's log has its last lines; check the driver and vLLM versions, and report it with the request that was running."],
  [/SIGTERM|SIGINT/i, "Somebody or something ended the engine from outside: systemd, an orchestrator, a person."],
  [/CUDA|NCCL|driver/i, "Check the GPU (nvidia-smi) and the driver's log (dmesg)."],
  [/hang|answered nothing|no answer|pulse|did not answer/i, "The engine answered nothing for VLLM_WSGI_ENGINE_TIMEOUT. If long prompts are normal here, raise that setting."],
  [/not found|no such|404|gated|401|403/i, "Check the model's source in models.toml, and HF_TOKEN for a gated repository."],
];

const nextFor = (reason) => DEATHS.find(([pattern]) => pattern.test(reason))?.[1]
  ?? "The engine's log has the whole error (journalctl -u vllm-wsgi-engine, or the terminal that started it).";

/** Return `{ kind: "bad" | "warn", what, next }` for a model's or replica's state, null when nothing is wrong. */
export function adviceFor(model, now) {
  // The sentence below says already that it can't be loaded.
  const reason = model.reason ? `: ${model.reason.replace(/^the model can't be loaded: /, "")}` : "";
  const name = shortName(model.name);
  if (model.state === "failed" || model.state === "restarting") {
    const again = model.retry_at > now ? ` The next try is in ${Math.ceil(model.retry_at - now)} s.` : "";
    const is = model.state === "failed" ? "can't be loaded" : "is restarting";
    return { kind: "bad", what: `${name} ${is}${reason}.${again}`, next: nextFor(model.reason ?? "") };
  }
  if (model.state === "loading" && model.since && now - model.since > LOAD_SECONDS) {
    return { kind: "warn", what: `${name} has been loading for ${seconds(Math.round(now - model.since))}.`,
      next: "Large models take minutes from a slow disk. If the engine's log stands still too, check the disk and the network." };
  }
  const lame = (model.replicas ?? []).filter((each) => each.state !== "ready" && each.state !== "loading");
  if (lame.length && model.replicas.length > 1) {
    const why = lame.find((each) => each.reason)?.reason ?? "";
    return { kind: "warn", what: `${lame.length} of ${model.replicas.length} replicas of ${name} ${lame.length === 1 ? "does" : "do"} not serve${why ? `: ${why}` : ""}.`,
      next: nextFor(why) };
  }
  if (model.waiting > 0 && model.queue_seconds > WAIT_SECONDS) {
    return { kind: "warn", what: `${count(model.waiting)} requests wait, ${seconds(model.queue_seconds)} each.`,
      next: "The model is at its limit. Add a replica, raise max_num_seqs while there is memory for it, or limit the busiest key." };
  }
  return null;
}

/** The same for the engine host and the connection to it. */
export function hostAdvice(snapshot) {
  const host = snapshot.host ?? { state: "ready" };
  if (host.state === "draining") {
    return { kind: "warn", what: "The engine host is going down: running requests may end, new ones get a 503.", next: "Start it again, or wait for its supervisor to." };
  }
  if (host.state !== "ready") {
    return { kind: "bad", what: `The engine host does not answer${host.reason ? `: ${host.reason}` : ""}.`, next: "gunicorn starts a host of its own again, within seconds. Another one: systemctl start vllm-wsgi-engine. Its log has the reason." };
  }
  return null;
}
