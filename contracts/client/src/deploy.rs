//! A new deployment: contracts, links, roles, and the hand-over to the timelock.

use alloy::network::TransactionBuilder;
use alloy::primitives::{Address as EthAddress, B256, U256, keccak256};
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolValue;
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{Address, Amount};

use crate::abi::administration::{grantRoleCall, renounceRoleCall};
use crate::abi::penalty_manager::PenaltyManager;
use crate::abi::round_manager::RoundManager;
use crate::abi::settlement::Settlement;
use crate::abi::sketch_audit::SketchAudit;
use crate::abi::stake_manager::StakeManager;
use crate::abi::task_manager::TaskManager;
use crate::abi::timelock::TimelockController;
use crate::abi::token::ConvokeToken;
use crate::abi::{eth, ours, round_manager_code};
use crate::connection::Link;
use crate::{AddressBook, Chain, ChainError, ProofCheck, SendOptions, verifiers};

/// The ERC-20 of stakes and rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeployToken {
    /// A plain one, for devnets and tests, with 18 decimals.
    New {
        /// Minted to the deployer, in base units.
        supply: Amount,
    },
    /// One that is there. It must not take fees, rebase, or call back.
    Existing(Address),
}

/// What is decided at deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployOptions {
    /// The token.
    pub token: DeployToken,
    /// From the request to the withdrawal of stake, in seconds, at most 90 days: a week by
    /// default. It also bounds the dispute windows of all tasks.
    pub unbonding_seconds: u32,
    /// Until a delegation joins its pool, in seconds: a day by default.
    pub warmup_seconds: u32,
    /// From the announcement of a higher commission to its force, in seconds: a week by default.
    pub commission_notice_seconds: u32,
    /// Delegation counts up to so many basis points of the operator's own stake: 50,000 by
    /// default, five times.
    pub delegation_cap_bps: u32,
    /// What checks the proofs of results; nothing yet by default.
    pub proofs: ProofCheck,
    /// An aggregator has so many seconds to show what it is asked for in an audit. Tasks whose
    /// dispute window is shorter know no such demands: none by default, since the aggregator of
    /// this version does not answer by itself, and silence costs stake.
    pub answer_window_seconds: u32,
    /// What such a demand costs if it is answered, in base units: 10^18 by default, a token as they
    /// usually are. It should cover the gas of the answer, 400,000 at most.
    pub audit_bond: Amount,
    /// Before anything that the administrators decide comes into force, in seconds: two days by
    /// default.
    pub timelock_delay_seconds: u64,
    /// Who decides through the timelock; the deployer by default.
    pub governor: Option<Address>,
    /// Who may stop deposits, delegations and new tasks at once, and nothing else; the deployer by
    /// default.
    pub guardian: Option<Address>,
}

impl DeployOptions {
    /// The defaults with a new token of which the deployer gets `supply` base units.
    #[must_use]
    pub fn new(supply: Amount) -> Self {
        Self {
            token: DeployToken::New { supply },
            unbonding_seconds: 7 * DAY,
            warmup_seconds: DAY,
            commission_notice_seconds: 7 * DAY,
            delegation_cap_bps: 50_000,
            proofs: ProofCheck::Unverified,
            answer_window_seconds: 90 * DAY,
            audit_bond: Amount(1_000_000_000_000_000_000),
            timelock_delay_seconds: u64::from(2 * DAY),
            governor: None,
            guardian: None,
        }
    }
}

const DAY: u32 = 24 * 60 * 60;

/// `DEFAULT_ADMIN_ROLE` of OpenZeppelin's `AccessControl`.
const ADMIN: B256 = B256::ZERO;

impl Chain {
    /// Deploys the contracts around a token, links them, and hands the administration to a
    /// timelock. In the end the deployer has no role but those that the options give it.
    ///
    /// A deployment that was interrupted is of no use: begin again.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`]; [`ChainError::NotDeployed`] if there is no token;
    /// [`ChainError::Reverted`] with `UnbondingTooLong`; [`ChainError::Refused`] when the wallet
    /// cannot pay the gas.
    pub async fn deploy(
        rpc: &str,
        wallet: &Wallet,
        options: &DeployOptions,
    ) -> Result<AddressBook, ChainError> {
        let link = Link::open(rpc, Some(wallet), SendOptions::default()).await?;
        Deployment {
            link: &link,
            deployer: wallet.address(),
            options,
        }
        .run()
        .await
    }
}

struct Deployment<'a> {
    link: &'a Link,
    deployer: Address,
    options: &'a DeployOptions,
}

impl Deployment<'_> {
    async fn run(&self) -> Result<AddressBook, ChainError> {
        let (token, deployed_block) = self.token().await?;
        let stakes = self.stake_manager(token).await?;
        let tasks = self.task_manager(token, stakes).await?;
        let rounds = self.round_manager(stakes, tasks).await?;
        let penalties = self
            .create(
                "deployment of the penalty manager",
                &PenaltyManager::BYTECODE,
                eth(rounds).abi_encode(),
            )
            .await?;
        let audit = self.sketch_audit(rounds).await?;
        self.connect(stakes, tasks, rounds).await?;
        let verifier = self.verifier(tasks, rounds).await?;
        let timelock = self.timelock().await?;
        let slasher = role("SLASHER_ROLE");
        self.grant(stakes, slasher, rounds).await?;
        self.grant(stakes, slasher, penalties).await?;
        self.grant(stakes, slasher, audit).await?;
        self.hand_over([stakes, tasks, rounds], rounds, timelock)
            .await?;
        Ok(AddressBook {
            chain_id: self.link.chain_id,
            rpc: self.link.rpc.to_string(),
            token,
            stake_manager: stakes,
            task_manager: tasks,
            round_manager: rounds,
            penalty_manager: penalties,
            verifier,
            sketch_audit: Some(audit),
            timelock: Some(timelock),
            deployed_block,
        })
    }

    /// The token, and a block before which there is nothing of the deployment.
    async fn token(&self) -> Result<(Address, u64), ChainError> {
        let head = self.link.block(alloy::eips::BlockId::latest()).await?;
        let head = head.map_or(0, |head| head.number);
        let token = match self.options.token {
            DeployToken::Existing(token) if self.link.has_code(token).await? => token,
            DeployToken::Existing(address) => {
                return Err(ChainError::NotDeployed {
                    contract: "token",
                    address,
                    chain_id: self.link.chain_id,
                });
            }
            DeployToken::New { supply } => {
                let supply = U256::from(supply.0).abi_encode();
                self.create("deployment of the token", &ConvokeToken::BYTECODE, supply)
                    .await?
            }
        };
        Ok((token, head))
    }

    async fn stake_manager(&self, token: Address) -> Result<Address, ChainError> {
        let options = self.options;
        let arguments = (
            eth(token),
            options.unbonding_seconds,
            options.warmup_seconds,
            options.commission_notice_seconds,
            options.delegation_cap_bps,
            eth(self.deployer),
        );
        self.create(
            "deployment of the stake manager",
            &StakeManager::BYTECODE,
            arguments.abi_encode_params(),
        )
        .await
    }

    async fn task_manager(&self, token: Address, stakes: Address) -> Result<Address, ChainError> {
        self.create(
            "deployment of the task manager",
            &TaskManager::BYTECODE,
            (eth(token), eth(stakes), eth(self.deployer)).abi_encode_params(),
        )
        .await
    }

    async fn round_manager(&self, stakes: Address, tasks: Address) -> Result<Address, ChainError> {
        let settlement = self
            .create(
                "deployment of the settlement library",
                &Settlement::BYTECODE,
                Vec::new(),
            )
            .await?;
        self.create(
            "deployment of the round manager",
            &round_manager_code(settlement),
            (eth(stakes), eth(tasks), eth(self.deployer)).abi_encode_params(),
        )
        .await
    }

    async fn sketch_audit(&self, rounds: Address) -> Result<Address, ChainError> {
        let options = self.options;
        let arguments = (
            eth(rounds),
            options.answer_window_seconds,
            options.audit_bond.0,
        );
        self.create(
            "deployment of the audit of sketches",
            &SketchAudit::BYTECODE,
            arguments.abi_encode_params(),
        )
        .await
    }

    async fn connect(
        &self,
        stakes: Address,
        tasks: Address,
        rounds: Address,
    ) -> Result<(), ChainError> {
        // The stake manager checks that the others point back, so it comes last.
        let call = TaskManager::linkCall {
            roundManager_: eth(rounds),
        };
        self.link.send(tasks, &call).await?;
        let call = StakeManager::linkCall {
            taskManager_: eth(tasks),
            roundManager_: eth(rounds),
        };
        self.link.send(stakes, &call).await?;
        Ok(())
    }

    async fn verifier(
        &self,
        tasks: Address,
        rounds: Address,
    ) -> Result<Option<Address>, ChainError> {
        let Some(verifier) = verifiers::create(self.link, tasks, &self.options.proofs).await?
        else {
            return Ok(None);
        };
        let setter = role("VERIFIER_ROLE");
        self.grant(rounds, setter, self.deployer).await?;
        let call = RoundManager::setProofVerifierCall {
            verifier: eth(verifier),
        };
        self.link.send(rounds, &call).await?;
        self.renounce(rounds, setter).await?;
        Ok(Some(verifier))
    }

    async fn timelock(&self) -> Result<Address, ChainError> {
        let governor = eth(self.options.governor.unwrap_or(self.deployer));
        let arguments = (
            U256::from(self.options.timelock_delay_seconds),
            vec![governor],
            // After the delay anyone may carry out what the governor decided.
            vec![EthAddress::ZERO],
            // Nobody administers the timelock but itself.
            EthAddress::ZERO,
        );
        self.create(
            "deployment of the timelock",
            &TimelockController::BYTECODE,
            arguments.abi_encode_params(),
        )
        .await
    }

    async fn hand_over(
        &self,
        managers: [Address; 3],
        rounds: Address,
        timelock: Address,
    ) -> Result<(), ChainError> {
        let guardian = self.options.guardian.unwrap_or(self.deployer);
        let [stakes, tasks, _] = managers;
        for manager in [stakes, tasks] {
            self.grant(manager, role("PAUSER_ROLE"), guardian).await?;
        }
        // From here on nobody names another that could take stake, the timelock included.
        self.renounce(stakes, role("SLASHER_ADMIN_ROLE")).await?;
        for manager in managers {
            self.grant(manager, ADMIN, timelock).await?;
        }
        self.grant(rounds, role("VERIFIER_ROLE"), timelock).await?;
        for manager in managers {
            self.renounce(manager, ADMIN).await?;
        }
        Ok(())
    }

    async fn grant(&self, manager: Address, role: B256, to: Address) -> Result<(), ChainError> {
        let account = eth(to);
        self.link
            .send(manager, &grantRoleCall { role, account })
            .await
            .map(drop)
    }

    async fn renounce(&self, manager: Address, role: B256) -> Result<(), ChainError> {
        let call = renounceRoleCall {
            role,
            callerConfirmation: eth(self.deployer),
        };
        self.link.send(manager, &call).await.map(drop)
    }

    async fn create(
        &self,
        what: &'static str,
        bytecode: &[u8],
        arguments: Vec<u8>,
    ) -> Result<Address, ChainError> {
        create(self.link, what, bytecode, &arguments).await
    }
}

/// Makes a contract. `what` is for errors.
pub(crate) async fn create(
    link: &Link,
    what: &'static str,
    bytecode: &[u8],
    arguments: &[u8],
) -> Result<Address, ChainError> {
    let code = [bytecode, arguments].concat();
    let receipt = link
        .transact(what, TransactionRequest::default().with_deploy_code(code))
        .await?;
    receipt
        .contract_address
        .map(ours)
        .ok_or_else(|| ChainError::Unexpected(format!("{what} made no contract")))
}

/// The number of a role, as the contracts make it.
pub(crate) fn role(name: &str) -> B256 {
    keccak256(name.as_bytes())
}
