"""The glossary: every metric a run writes, with its unit, its meaning and which way is better."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from klimb.errors import RunError

Better = Literal["up", "down", "neither"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. A part of `name` in angle brackets stands for any word: `reward/<source>`."""

    name: str
    unit: str
    meaning: str
    better: Better = "neither"

    def covers(self, name: str) -> bool:
        """Whether `name` is this metric."""
        pattern = re.sub(r"<[^>]+>", "\x00", self.name)
        return re.fullmatch(re.escape(pattern).replace("\x00", r"[\w.:\-]+"), name) is not None


GLOSSARY: tuple[Metric, ...] = (
    Metric("step", "count", "optimizer batches so far; 0 = before training"),
    Metric("loss", "none", "the objective's surrogate loss; its height says nothing, its gradient does"),
    # rewards
    Metric("reward/mean", "reward", "mean combined reward of the scored completions", "up"),
    Metric("reward/std", "reward", "standard deviation of the combined reward over the scored completions"),
    Metric("reward/<source>", "reward", "mean score of one reward source, over what it could score", "up"),
    Metric("outcome/asked", "count", "scores that were asked for in this step, of all sources", "down"),
    Metric("outcome/scored", "share", "completions that every needed source could score", "up"),
    Metric("outcome/<name>", "share", "completions whose scoring ended this way instead; none is trained on", "down"),
    Metric("group/degenerate", "share", "prompts whose completions all got the same reward: no signal", "down"),
    Metric("group/drawn", "count", "prompts asked in this step, with dynamic sampling", "down"),
    Metric("group/discarded", "count", "prompts asked in this step whose completions are left out", "down"),
    Metric("group/<name>", "share", "prompts of this kind"),
    Metric("combining/<name>", "reward", "running mean or scale of a source, where rewards are normalised"),
    Metric("bandit/share_<name>", "share", "prompts of this step whose reward this source gave"),
    Metric("bandit/gain", "none", "mean gain that the bandit over the sources learned from, 0 to 1", "up"),
    Metric("bandit/width", "none", "mean width of the guess at the chosen arm's gain; falls as it is tried"),
    Metric("bandit/width_<name>", "none", "mean width of the guess at this arm's gain, over this step's choices"),
    Metric("bandit/saturated", "share", "gains in the window at exactly 0 or 1; near 1 the bandit is blind", "down"),
    # signs that a reward is gamed
    Metric("hacking/by_length", "correlation", "rank correlation of reward and length between answers to one prompt"),
    Metric("hacking/with_<source>", "correlation", "the same of the reward and a source's score", "up"),
    Metric("hacking/disagreement", "none", "1 less the mean of that between each two sources; 0 = they say the same"),
    # policy
    Metric(
        "policy/entropy", "nats/token", "mean entropy of the policy at its sampled tokens; near 0 = no exploration left"
    ),
    Metric("policy/entropy_p10", "nats/token", "10 % of the sampled tokens had at most this entropy"),
    Metric("policy/entropy_p50", "nats/token", "half of the sampled tokens had at most this entropy"),
    Metric("policy/entropy_p90", "nats/token", "90 % of the sampled tokens had at most this entropy"),
    Metric("policy/kl_old", "nats/token", "estimated divergence from the policy that sampled the batch", "down"),
    Metric("policy/kl_ref", "nats/token", "estimated divergence from the reference policy"),
    Metric("policy/kl_moving", "nats/token", "moving average of policy/kl_ref; past kappa the reference is refreshed"),
    Metric("policy/reference_age", "count", "steps since the reference was last refreshed, this one included"),
    Metric("policy/ratio", "ratio", "mean of pi_now / pi_old over the learning tokens; 1 before the policy moves"),
    Metric("policy/clip_share", "share", "learning tokens whose gradient the clip cut off"),
    Metric("policy/clip_above_good", "share", "those of them with a ratio above 1 and an advantage of 0 or more"),
    Metric("policy/clip_above_bad", "share", "those with a ratio above 1 and an advantage below 0"),
    Metric("policy/clip_below_good", "share", "those with a ratio below 1 and an advantage of 0 or more"),
    Metric("policy/clip_below_bad", "share", "those with a ratio below 1 and an advantage below 0"),
    Metric(
        "policy/effective",
        "share",
        "as how many whole answers, of those that ran, they count under pi / (what drew them): Kish's size, as a share",
        "up",
    ),
    Metric(
        "policy/gap",
        "nats/token",
        "mean |log-prob of the sampler - log-prob of the trainer| for the same token",
        "down",
    ),
    Metric("policy/gap_max", "nats", "the largest such difference in the batch", "down"),
    Metric("policy/<name>", "none", "a further measure of the policy, named by its objective"),
    Metric("objective/kl_force", "none", "RPG: mean size of the KL term's pull on a token, beside its advantage"),
    Metric("objective/kl_share", "share", "of the norms of the loss's gradient in the log-probs, that of the KL"),
    Metric("objective/kl_coefficient", "none", "the steered weight of the KL in this step"),
    Metric("objective/baseline", "reward", "the moving mean of earlier rewards that was taken off in this step"),
    Metric("objective/<name>", "none", "a further term of the objective"),
    # replay
    Metric("replay/groups", "count", "groups of this step that were drawn earlier"),
    Metric("replay/share", "share", "groups of this step that were drawn earlier"),
    Metric("replay/buffer", "count", "groups that could have been replayed in this step"),
    Metric("replay/reward", "reward", "mean reward of the replayed answers, as it was then"),
    Metric("replay/degenerate", "share", "replayed groups whose answers all got the same reward: no signal", "down"),
    Metric("replay/length", "tokens", "mean length of the replayed answers"),
    Metric("replay/effective", "share", "policy/effective of the replayed answers alone", "up"),
    Metric("replay/ratio_p05", "ratio", "5 % of the replayed tokens have at most this ratio pi / (what drew them)"),
    Metric("replay/ratio_p50", "ratio", "half of the replayed tokens have at most this ratio"),
    Metric("replay/ratio_p95", "ratio", "95 % of the replayed tokens have at most this ratio"),
    Metric("replay/ratio_max", "ratio", "the largest ratio of a replayed token"),
    Metric("replay/age", "count", "mean staleness: versions of the policy since a replayed answer was drawn", "down"),
    Metric("replay/age_max", "count", "the largest staleness of a replayed answer", "down"),
    Metric(
        "replay/gap",
        "nats/token",
        "mean |log old - log-prob of what drew it| of the replayed tokens; 0 with source.old=behaviour",
        "down",
    ),
    Metric("replay/<name>", "none", "a further measure of what is replayed"),
    # critic
    Metric("value/loss", "reward^2", "the critic's loss: half the squared, clipped distance from the returns", "down"),
    Metric(
        "value/explained_variance",
        "share",
        "of the returns' variance, what the values known before the update explain; below 0 = worse than their mean",
        "up",
    ),
    Metric("value/mean", "reward", "mean value that the critic gives to the states before the learning tokens"),
    Metric("value/clip_share", "share", "learning tokens whose value loss was cut off by its clip"),
    Metric("value/<name>", "none", "a further measure of the critic"),
    Metric("selection/share", "share", "learning tokens that the selector kept"),
    Metric(
        "selection/share_live", "share", "of the learning tokens of answers with an advantage, those that were kept"
    ),
    Metric("selection/threshold", "nats", "the entropy at which the kept tokens end, a mean over the updates"),
    Metric("selection/entropy_kept", "nats/token", "mean entropy of the kept tokens, as the selector ranked them"),
    Metric("selection/entropy_dropped", "nats/token", "mean entropy of the tokens that could learn and were dropped"),
    Metric("selection/clip_share_all", "share", "policy/clip_share with the dropped tokens of the rows that ran"),
    Metric("selection/<name>", "share", "what the token selector did"),
    # preferences
    Metric("policy/nll", "nats/token", "negative log-probability of the given answers", "down"),
    Metric(
        "preference/accuracy", "share", "trained pairs (or labelled answers) on the right side; a tie is half", "up"
    ),
    Metric("preference/gap", "nats", "log(pi/ref) of the chosen answers less that of the rejected ones, a mean", "up"),
    Metric("preference/chosen", "nats", "log(pi/ref) of the chosen answers; log pi without a reference"),
    Metric("preference/rejected", "nats", "log(pi/ref) of the rejected answers; log pi without a reference"),
    Metric("preference/logp_chosen", "nats", "log pi of the chosen answers; it may fall while the gap grows"),
    Metric("preference/logp_rejected", "nats", "log pi of the rejected answers"),
    Metric("preference/paired", "share", "sampled prompts whose answers gave a pair; the others are ties"),
    Metric("preference/round", "count", "round of iterative training that the step is of; 1 = the first"),
    Metric("preference/pairs", "count", "pairs of samples in this step"),
    Metric("preference/point", "nats", "KTO's reference point z0"),
    Metric("preference/<name>", "none", "a further measure of the preferences that are trained on"),
    # optimizer
    Metric("optim/lr", "rate", "learning rate of this step"),
    Metric("optim/grad_norm", "norm", "norm of the policy's whole gradient, with a value head's, before clipping"),
    Metric("optim/skipped", "count", "optimizer steps left out because they would not have been finite", "down"),
    Metric("optim/critic_lr", "rate", "learning rate of a critic's own model"),
    Metric("optim/critic_grad_norm", "norm", "norm of the gradient of a critic's own model, before clipping"),
    Metric("optim/critic_skipped", "count", "steps of a critic's own model left out: gradient not finite", "down"),
    Metric("optim/<name>", "none", "a further measure of the optimizer"),
    # lengths and counts
    Metric("length/mean", "tokens", "mean length of the completions, EOS included"),
    Metric("length/truncated", "share", "completions cut off at the length limit", "down"),
    Metric("length/<name>", "tokens", "a further measure of the lengths"),
    Metric("diversity/distinct_1", "share", "different tokens among all tokens of a prompt's completions"),
    Metric("diversity/distinct_2", "share", "different pairs of tokens among all pairs of a prompt's completions"),
    Metric("diversity/repetition", "share", "runs of four tokens that stood in the same completion before", "down"),
    Metric("tokens/sampled", "tokens", "completion tokens sampled in this step, discarded ones too"),
    Metric("tokens/trained", "tokens", "completion tokens that carried a gradient in this step"),
    Metric("tokens/discarded", "tokens", "completion tokens sampled in this step and left out of it", "down"),
    Metric("tokens/<name>", "tokens", "a further count of tokens in this step"),
    # held-out evaluation
    Metric("eval/accuracy", "share", "held-out completions that are correct, of those that could be scored", "up"),
    Metric("eval/low", "share", "lower end of the 95 % interval of eval/accuracy (Wilson)", "up"),
    Metric("eval/high", "share", "upper end of the 95 % interval of eval/accuracy (Wilson)", "up"),
    Metric("eval/accuracy_<side>", "share", "eval/accuracy of the prompts with this value of a column", "up"),
    Metric("eval/format", "share", "held-out completions in the wanted form, right or wrong", "up"),
    Metric("eval/format_low", "share", "lower end of the 95 % interval of eval/format (Wilson)", "up"),
    Metric("eval/format_high", "share", "upper end of the 95 % interval of eval/format (Wilson)", "up"),
    Metric("eval/gain", "share", "eval/accuracy less that before training, on the same problems", "up"),
    Metric("eval/gain_low", "share", "lower end of the 95 % interval of eval/gain (paired bootstrap)", "up"),
    Metric("eval/gain_high", "share", "upper end of the 95 % interval of eval/gain (paired bootstrap)", "up"),
    Metric("eval/score", "reward", "mean score of the held-out completions, by a source that is no verifier", "up"),
    Metric("eval/score_low", "reward", "lower end of its 95 % interval (normal)", "up"),
    Metric("eval/score_high", "reward", "upper end of its 95 % interval (normal)", "up"),
    Metric("eval/win", "share", "held-out prompts answered better than before training; a tie is a half", "up"),
    Metric("eval/win_low", "share", "lower end of its 95 % interval over prompts (Wilson)", "up"),
    Metric("eval/win_high", "share", "upper end of its 95 % interval over prompts (Wilson)", "up"),
    Metric("eval/win_n", "count", "held-out prompts of which that was judged"),
    Metric("eval/win_failed", "count", "held-out prompts that could not be judged or had other tokens then", "down"),
    Metric("eval/implicit_accuracy", "share", "held-out pairs whose chosen answer has the larger log(pi/ref)", "up"),
    Metric("eval/implicit_low", "share", "lower end of its 95 % interval (Wilson)", "up"),
    Metric("eval/implicit_high", "share", "upper end of its 95 % interval (Wilson)", "up"),
    Metric("eval/implicit_gap", "nats", "log(pi/ref) of the chosen less that of the rejected held-out answers", "up"),
    Metric("eval/pairs", "count", "held-out pairs"),
    Metric("eval/drift_chosen", "nats", "log(pi/ref) of the held-out chosen answers; it may fall while the gap grows"),
    Metric("eval/drift_rejected", "nats", "log(pi/ref) of the held-out rejected answers"),
    Metric("eval/nll", "nats", "-log pi a token of the held-out chosen answers", "down"),
    Metric("eval/distinct_1", "share", "different tokens among all tokens of the held-out completions"),
    Metric("eval/distinct_2", "share", "different pairs of tokens among all pairs of the held-out completions"),
    Metric("eval/reward_accuracy", "share", "held-out pairs whose chosen answer a reward model scores higher", "up"),
    Metric("eval/reward_low", "share", "lower end of its 95 % interval (Wilson)", "up"),
    Metric("eval/reward_high", "share", "upper end of its 95 % interval (Wilson)", "up"),
    Metric("eval/reward_loss", "nats", "-log s(reward gap) of the held-out pairs; log 2 = nothing is known", "down"),
    Metric("eval/reward_calibration", "share", "expected calibration error of s(reward gap), ten bins", "down"),
    Metric("eval/reward_calibration_low", "share", "lower end of its 95 % interval (bootstrap)", "down"),
    Metric("eval/reward_calibration_high", "share", "upper end of its 95 % interval (bootstrap)", "down"),
    Metric("eval/reward_calibration_chance", "share", "what it would be on average if every probability were true"),
    Metric("eval/longer_wins", "share", "held-out pairs whose chosen answer is the longer one: a line to beat"),
    Metric("eval/words_win", "share", "held-out pairs whose chosen answer a model of words prefers: a line to beat"),
    Metric("eval/reward_mean", "reward", "mean reward of the held-out answers, chosen and rejected"),
    Metric("eval/reward_std", "reward", "spread of the rewards of the held-out answers"),
    Metric("eval/kl", "nats", "KL(pi||ref) of whole answers, on samples of the policy to held-out prompts", "down"),
    Metric("eval/kl_low", "nats", "lower end of its 95 % interval (normal)", "down"),
    Metric("eval/kl_high", "nats", "upper end of its 95 % interval (normal)", "down"),
    Metric("eval/length", "tokens", "mean length of the held-out completions"),
    Metric("eval/truncated", "share", "held-out completions cut off at the length limit", "down"),
    Metric("eval/n", "count", "held-out completions that could be scored"),
    Metric("eval/failed", "count", "held-out completions that could not be scored; not counted as wrong", "down"),
    Metric("eval/<name>", "none", "a further held-out measure"),
    # time and memory
    Metric("time/sample", "seconds", "sampling completions", "down"),
    Metric("time/score", "seconds", "scoring completions", "down"),
    Metric("time/reference", "seconds", "log-probs of the initial policy; old log-probs and values", "down"),
    Metric("time/train", "seconds", "forward and backward passes", "down"),
    Metric("time/select", "seconds", "entropies of the current policy, for the token selector", "down"),
    Metric("time/optimize", "seconds", "the optimizer's update", "down"),
    Metric("time/sync", "seconds", "giving the new weights to the sampler", "down"),
    Metric("time/save", "seconds", "writing rollouts and checkpoints", "down"),
    Metric("time/evaluate", "seconds", "held-out evaluation", "down"),
    Metric("time/step", "seconds", "the whole step, everything included", "down"),
    Metric("time/<stage>", "seconds", "a further stage of the step", "down"),
    Metric("memory/peak_gb", "GB", "largest resident memory of the process so far", "down"),
    Metric("memory/<name>", "GB", "a further measure of memory", "down"),
)


def find(name: str) -> Metric | None:
    """A metric's entry: the exact one, else the first pattern that covers it; None where there is none."""
    exact = next((metric for metric in GLOSSARY if metric.name == name), None)
    return exact or next((metric for metric in GLOSSARY if metric.covers(name)), None)


def unknown(names: Iterable[str]) -> list[str]:
    """The names that the glossary does not have, sorted."""
    return sorted(name for name in set(names) if find(name) is None)


def require(names: Iterable[str]) -> None:
    """Raises RunError for the first name that the glossary does not have, with the nearest one that it has."""
    for name in unknown(names):
        near = difflib.get_close_matches(name, [metric.name for metric in GLOSSARY], n=1, cutoff=0.0)
        raise RunError("a metric in the glossary (tracking/metrics.py)", repr(name), f"{near[0]!r}, or add an entry")
