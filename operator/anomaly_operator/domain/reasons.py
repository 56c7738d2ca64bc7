"""Reasons of conditions, decisions and Events: one CamelCase word each, stable, for machines and alerts."""

# Why no revision can be rolled out
INVALID_SPEC = "InvalidSpec"
RESOLVING = "Resolving"
PICKLE_NOT_ALLOWED = "PickleNotAllowed"
DIGEST_CHANGED = "DigestChanged"
ENVIRONMENT_MISMATCH = "EnvironmentMismatch"
MODEL_TOO_LARGE = "ModelTooLarge"
NAME_TAKEN = "NameTaken"
POLICY_MISSING = "PolicyMissing"
UNREACHABLE = "Unreachable"

# Steps of a rollout
DEPLOYING = "Deploying"
CANDIDATE_NOT_READY = "CandidateNotReady"
SMOKE_TESTING = "SmokeTesting"
ANALYSING = "Analysing"
INCONCLUSIVE = "Inconclusive"
AWAITING_PROMOTION = "AwaitingPromotion"
SIGNATURE_CHANGED = "SignatureChanged"
PAUSED = "Paused"
WAITING_FOR_CAPACITY = "WaitingForCapacity"
WAITING_FOR_GUARD = "WaitingForGuard"
SERVING = "Serving"

# Decisions
DEPLOYED = "Deployed"
PROMOTED = "Promoted"
RESTORED = "Restored"
ROLLED_BACK = "RolledBack"
ABORTED = "Aborted"
REQUESTED = "Requested"
ERROR_RATE = "ErrorRateExceeded"
LATENCY = "LatencyExceeded"
MEMORY = "MemoryExceeded"
ANOMALY_RATE = "AnomalyRateOutOfRange"
DRIFT = "DriftDetected"
UNAVAILABLE = "Unavailable"
MODEL_REFUSED = "ModelRefused"

# A breach that leads nowhere
ROLLING_BACK = "RollingBack"
NO_GOOD_REVISION = "NoGoodRevision"
NO_STEP_BACK = "NoSecondStepBack"
WAY_BACK_NOT_READY = "WayBackNotReady"

# Drift
DRIFTED = "Drifted"
NO_CONTROL = "NoControl"
COMPARING = "ComparingWithControl"
NO_DRIFT = "NoDrift"

# Retraining
RETRAINING = "Retraining"
RETRAINED = "Retrained"
JOB_FAILED = "JobFailed"
DEADLINE_EXCEEDED = "DeadlineExceeded"
NOT_BETTER = "NotBetter"
NEVER_BEGAN = "NeverBegan"
LOST = "Lost"

# Other Events
MALFORMED_ANNOTATION = "MalformedAnnotation"
SELECTOR_RESTORED = "SelectorRestored"
COMMAND_ACCEPTED = "CommandAccepted"
COMMAND_REFUSED = "CommandRefused"
RETRAINING_STARTED = "RetrainingStarted"
RETRAINING_ENDED = "RetrainingEnded"
DRAINED = "Drained"
NOT_TOLD = "RoleNotTold"
