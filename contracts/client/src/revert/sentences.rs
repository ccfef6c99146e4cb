//! What the contracts' refusals mean.

/// By name, with the values to put in. Two errors of one name and different values have a sentence
/// each, the first that fits counts. A value that is not named is left out.
pub(super) static SENTENCES: &[(&str, &str)] = &[
    (
        "AccessControlBadConfirmation",
        "only the account itself can give up its role",
    ),
    (
        "AccessControlUnauthorizedAccount",
        "{account} lacks {neededRole}",
    ),
    ("AggregatorMissing", "the task names no aggregator"),
    (
        "AlreadyClaimed",
        "the payout of {account} for round {round} was claimed before",
    ),
    (
        "AlreadyCommitted",
        "{account} has committed before in this round",
    ),
    ("AlreadyLinked", "linked with {roundManager} for good"),
    ("AlreadyPunished", "fault {fault} was punished before"),
    (
        "AlreadyRevealed",
        "{validator} has revealed before in this round",
    ),
    (
        "AnswerAwaited",
        "the aggregator can answer until Unix time {due}",
    ),
    (
        "AnswerTooLate",
        "the demand could be answered until Unix time {due}",
    ),
    (
        "AttemptsExhausted",
        "the round failed {attempts} times, which is as often as it may be tried",
    ),
    (
        "AttemptsOutOfRange",
        "{attempts} attempts asked for, 1 to 100 are allowed",
    ),
    (
        "ClaimAboveAllotted",
        "{amount} claimed, the task has {remaining} left of what its rounds allot",
    ),
    (
        "ClaimAboveRoundTotal",
        "{amount} claimed, the round has {remaining} left",
    ),
    (
        "CohortOutOfRange",
        "cohorts of {trainersMin} to {trainersMax} trainers asked for, 1 to 256 are allowed",
    ),
    (
        "CohortSizeOutOfRange",
        "the cohort has {size} trainers, the task asks for {minimum} to {maximum}",
    ),
    (
        "CommissionTooHigh",
        "a commission of {commissionBps} basis points, at most {maximum} are allowed",
    ),
    (
        "CommitmentTooLarge",
        "the commitment {commitment} is not below the order of the scalar field",
    ),
    (
        "DemandTooLate",
        "an answer would be due at Unix time {due}, the result is final at {finalAt}",
    ),
    (
        "DifferentRounds",
        "the two updates are for different tasks or rounds",
    ),
    (
        "DifferentSigners",
        "the updates were signed by {first} and {second}",
    ),
    (
        "DisputeWindowClosed",
        "the result could be challenged until Unix time {closedAt}",
    ),
    ("DisputeWindowOpen", "claims open at Unix time {opensAt}"),
    (
        "DuplicatePayout",
        "payout {index} is the second of {account}",
    ),
    (
        "ERC20InsufficientAllowance",
        "allowed to spend {allowance} of the {needed} needed",
    ),
    (
        "ERC20InsufficientBalance",
        "{sender} holds {balance} of the {needed} needed",
    ),
    ("ERC20InvalidApprover", "{approver} cannot allow anything"),
    ("ERC20InvalidReceiver", "{receiver} cannot receive tokens"),
    ("ERC20InvalidSender", "{sender} cannot send tokens"),
    (
        "ERC20InvalidSpender",
        "{spender} cannot be allowed anything",
    ),
    ("EnforcedPause", "entry is stopped; exits and claims go on"),
    ("ExpectedPause", "entry is not stopped"),
    (
        "FactorTooHigh",
        "a factor of {factor}, at most {maximum} is allowed",
    ),
    ("FailedCall", "the call that was decided on failed"),
    ("ForeignContract", "{other} belongs to another deployment"),
    ("GasTooLow", "{gas} gas left, at least {minimum} are needed"),
    (
        "HalfAnEntry",
        "entry {index} of the proof has a commitment without a root of sums, or a root without a commitment",
    ),
    (
        "InputTooLarge",
        "the public input {input} is not below the order of the scalar field",
    ),
    (
        "InvalidProof",
        "{amount} for {account} is not under the root of round {round}",
    ),
    (
        "InvalidSignature",
        "the signature is malformed, or nobody's",
    ),
    (
        "NoContradiction",
        "the reveal agrees with the commitment {commitment}",
    ),
    ("NoFault", "nothing is wrong with what was shown"),
    (
        "NoProofVerifier",
        "nobody set a contract that checks proofs",
    ),
    (
        "NoRewards",
        "no rewards are due to {delegator} from {operator} in task {task}",
    ),
    (
        "NoSuchChunk",
        "there is no chunk {index}, the delta has {count}",
    ),
    (
        "NoSuchDemand",
        "there is no demand {demand}, or none any more",
    ),
    (
        "NoSuchUpdate",
        "there is no update {slot}, the round has {updates}",
    ),
    ("NoSuchVerifier", "there is no verifier {index}"),
    ("NoTokenAt", "there is no contract at {token}"),
    ("NotANorm", "the bits {bits} are of no norm"),
    (
        "NotActive",
        "update {slot} was refused before its sketch counted",
    ),
    (
        "NotActiveYet",
        "the delegation joins the pool at Unix time {activeAt}",
    ),
    ("NotAnAnswer", "demand {demand} asks for something else"),
    (
        "NotAnOperator",
        "{account} is no trainer or validator of task {task}",
    ),
    ("NotCancellable", "{roundsOpened} rounds were opened"),
    (
        "NotChallengeable",
        "the proofs of task {task} are checked with its results",
    ),
    (
        "NotCommitted",
        "{validator} committed to no scores in this round",
    ),
    (
        "NotEligible",
        "{account} has {stake} staked in the role, the task asks for {minimum}",
    ),
    ("NotInCohort", "{trainer} is not in the round's cohort"),
    (
        "NotInTree",
        "the leaf of {part} is not under the root {root}",
    ),
    (
        "NotSettled",
        "round {round} of task {task} has no result, or none any more",
    ),
    (
        "NotTheAggregator",
        "only the aggregator {expected} may do this, not {caller}",
    ),
    (
        "NotTheCreator",
        "only the creator {expected} may do this, not {caller}",
    ),
    (
        "NotTheDeployer",
        "only the deployer {deployer} may do this, not {caller}",
    ),
    (
        "NotTheRoundManager",
        "only the round manager {expected} may do this, not {caller}",
    ),
    (
        "NotTheStakeManager",
        "only the stake manager {expected} may do this, not {caller}",
    ),
    (
        "NotTheSubmission",
        "the submission has hash {expected}, not {got}",
    ),
    (
        "NotTheTaskManager",
        "only the task manager {expected} may do this, not {caller}",
    ),
    (
        "NotThisAttempt",
        "the claim is for attempt {attempt} of round {round} of task {task}, which is not the newest or has another seed",
    ),
    ("NothingBefore", "nothing comes before the first chunk"),
    ("NothingDue", "no time has run out in task {task}"),
    ("NothingPending", "no delegation waits to join the pool"),
    ("NothingRequested", "no withdrawal was requested"),
    ("NothingToClaim", "{account} has no pay for round {round}"),
    (
        "NothingToRefund",
        "nothing of task {task} is due to its creator",
    ),
    (
        "NothingToVerify",
        "a verifier of proofs needs a task manager and at least one key",
    ),
    (
        "NothingVested",
        "{account} has nothing vesting in task {task}",
    ),
    (
        "OtherHeader",
        "the header is not that of update {expected}, or is of another round",
    ),
    (
        "OtherOwnUpdates",
        "the proof names other updates than those that trainers committed to themselves: {got}, not {expected}",
    ),
    (
        "OtherUpdates",
        "the proof names other updates than those committed to: their root is {got}, not {expected}",
    ),
    (
        "PayoutWithoutSlot",
        "the payout at byte {offset} is for nobody whose update takes part, or is out of order",
    ),
    (
        "PayoutsAbovePool",
        "the payouts come to {total}, the trainers' pool is {pool}",
    ),
    (
        "PoolWornOut",
        "penalties left {operator}'s pool in task {task} with next to nothing: take the rest out, delegate to another",
    ),
    (
        "PreviousRoundDisputable",
        "the previous result can be challenged until Unix time {until}",
    ),
    ("ProofHolds", "the proof holds"),
    ("ProofRefused", "the proof does not hold for this result"),
    (
        "ProofTooLong",
        "the proof has {length} bytes, at most {maximum} are allowed",
    ),
    (
        "RankDecayMissing",
        "a split by rank needs a decay above zero",
    ),
    (
        "RateTooHigh",
        "a rate of {rate} basis points, at most {maximum} are allowed",
    ),
    (
        "ReentrancyGuardReentrantCall",
        "a token or an account called back into the contract",
    ),
    (
        "ResultAbovePool",
        "the round may pay {pool}, the result comes to {total}",
    ),
    (
        "ResultDisputable",
        "the newest result can be challenged until Unix time {until}",
    ),
    (
        "RevealMismatch",
        "{committed} was committed to, {revealed} is revealed",
    ),
    (
        "RewardTooSmall",
        "the reward is {reward}, at least {minimum} is needed",
    ),
    (
        "RoleTaken",
        "the address is a {role} in this task and cannot be a {wanted}",
    ),
    (
        "RoundNotOpened",
        "round {round} of task {task} was never opened",
    ),
    (
        "RoundNotSettled",
        "round {round} of task {task} has no result",
    ),
    (
        "RoundTimeoutTooShort",
        "a round time-out of {roundTimeout} seconds, the windows of a round come to {minimum}",
    ),
    (
        "RoundsOutOfRange",
        "{rounds} rounds asked for, 1 to {maximum} are allowed",
    ),
    (
        "RoundsRemaining",
        "{settled} of {rounds} rounds are settled",
    ),
    (
        "SafeCastOverflowedUintDowncast",
        "{value} does not fit into {bits} bits",
    ),
    (
        "SafeERC20FailedOperation",
        "the token {token} refused a transfer",
    ),
    ("SameUpdate", "both updates are {updateHash}"),
    (
        "SeedTooEarly",
        "the seed's block is {seedBlock}, which is not there yet",
    ),
    (
        "SelfDelegation",
        "an operator adds to its own stake by a deposit",
    ),
    (
        "SharesDoNotAddUp",
        "the shares come to {sum} basis points instead of 10000",
    ),
    (
        "SharesTooFew",
        "{wanted} shares asked for, the delegator has {shares}",
    ),
    (
        "SlashTooHigh",
        "a penalty of {bps} basis points, at most {maximum} are allowed",
    ),
    (
        "SlotsNotAscending",
        "a key for {slots} updates after one for {before}",
    ),
    (
        "SplitNotProven",
        "only payouts by score are proven, this task splits by another rule ({split})",
    ),
    (
        "StageOver",
        "the stage's time ran out at Unix time {deadline}",
    ),
    (
        "StakeBelowMinimum",
        "the stake is {stake}, the task asks for {minimum}",
    ),
    (
        "StakeLocked",
        "the stake backs {roundKey} of task {task}, which is open",
    ),
    ("StakeTooSmall", "{amount} asked for, {stake} is staked"),
    (
        "StillUnbonding",
        "the stake is free at Unix time {availableAt}",
    ),
    (
        "TaskFileTooLong",
        "the task file has {length} bytes, at most {maximum} are allowed",
    ),
    ("TaskNotActive", "task {task} has ended or never was"),
    (
        "TimelockInsufficientDelay",
        "a delay of {delay} seconds, at least {minDelay} are needed",
    ),
    (
        "TimelockInvalidOperationLength",
        "{targets} targets, {payloads} calls and {values} values",
    ),
    (
        "TimelockUnauthorizedCaller",
        "{caller} may not change the timelock, only it itself",
    ),
    (
        "TimelockUnexecutedPredecessor",
        "{predecessorId} has to be carried out first",
    ),
    (
        "TimelockUnexpectedOperationState",
        "operation {operationId} is not in the state that this needs",
    ),
    (
        "TooManyOwnUpdates",
        "the proof says that trainers committed to {own} updates themselves, the round has {updates}",
    ),
    (
        "TooManyUpdates",
        "{updates} updates, at most {slotsMax} can be proven",
    ),
    (
        "TooManyValidators",
        "a round has at most {maximum} validators",
    ),
    (
        "UnbondingTooLong",
        "{unbonding} seconds of unbonding, at most {maximum} are allowed",
    ),
    ("UnknownRole", "there is no role {role}"),
    ("UnknownTask", "there is no task {task}"),
    (
        "UpdateCountOutOfRange",
        "{count} updates, 1 to {maximum} are possible",
    ),
    (
        "ValidatorsOutOfRange",
        "{validatorsMin} validators asked for, at most {maximum} are possible",
    ),
    (
        "WindowOutOfRange",
        "{window} seconds, allowed are {minimum} to {maximum}",
    ),
    (
        "WrongAmountReceived",
        "{received} arrived of {expected}: the token takes a fee",
    ),
    (
        "WrongEntries",
        "{length} bytes are no entries, or of more than {slots} updates",
    ),
    (
        "WrongFactors",
        "{length} bytes are no factors, or of more than {slots} updates",
    ),
    (
        "WrongFactorsLength",
        "{length} bytes of factors, {expected} are needed",
    ),
    (
        "WrongMedian",
        "{factor} is not the median for update {update}",
    ),
    ("WrongPayouts", "{length} bytes are no list of payouts"),
    (
        "WrongPayoutsLength",
        "{length} bytes are no list of payouts, or of more than there are updates",
    ),
    (
        "WrongProofLength",
        "the proof has {length} bytes, {expected} are needed",
    ),
    (
        "WrongReveal",
        "the factors of {validator} have hash {expected}, not {got}",
    ),
    (
        "WrongRound",
        "round {round} asked for, round {expected} is next",
    ),
    (
        "WrongStage",
        "the round is {stage}, the call needs it to be {expected}",
    ),
    (
        "WrongState",
        "task {task} is {state}, and this cannot be done then",
    ),
    ("ZeroAmount", "the amount is zero"),
    ("ZeroPayout", "payout {index} is zero"),
];
