//! Blocks, state and execution; synchronous, and without a clock of its own.

use std::collections::HashMap;

use alloy_consensus::constants::EMPTY_WITHDRAWALS;
use alloy_consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy_consensus::transaction::{Recovered, SignerRecoverable as _};
use alloy_consensus::{
    EMPTY_OMMER_ROOT_HASH, Header, ReceiptEnvelope, ReceiptWithBloom, Sealed, Transaction as _,
    TxEnvelope, TxReceipt as _,
};
use alloy_eips::eip2718::{Decodable2718 as _, Typed2718 as _};
use alloy_primitives::map::B256HashMap;
use alloy_primitives::{Address, B64, B256, Bytes, Log, TxKind, U256, keccak256};
use alloy_rpc_types_eth::state::{AccountOverride, StateOverride};
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction};
use revm::context::{BlockEnv, Context, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::database::{CacheDB, EmptyDB};
use revm::database_interface::DatabaseRef;
use revm::state::{AccountInfo, Bytecode};
use revm::{ExecuteCommitEvm as _, ExecuteEvm as _, MainBuilder as _, MainContext as _};

use crate::error::RpcError;

/// Gas that one block, and so one transaction, may use.
pub const BLOCK_GAS_LIMIT: u64 = 30_000_000;

/// Gas that one transaction may use (EIP-7825).
pub(crate) const TRANSACTION_GAS_MAX: u64 = 1 << 24;

/// The base fee of every block, in wei.
pub(crate) const BASE_FEE: u64 = 1_000_000_000;

/// A transaction's receipt, before it is dressed for JSON-RPC.
pub type Receipt = ReceiptEnvelope<Log>;

/// A block with at most one transaction.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) header: Sealed<Header>,
    pub(crate) transaction: Option<Mined>,
}

#[derive(Debug, Clone)]
pub(crate) struct Mined {
    pub(crate) transaction: Recovered<TxEnvelope>,
    pub(crate) receipt: Receipt,
    pub(crate) gas_used: u64,
    pub(crate) effective_gas_price: u128,
    pub(crate) contract_address: Option<Address>,
}

/// A call that is not mined.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    pub(crate) from: Address,
    pub(crate) to: TxKind,
    pub(crate) value: U256,
    pub(crate) data: Bytes,
    pub(crate) gas: u64,
    /// Accounts as they are for this call only.
    pub(crate) overrides: StateOverride,
}

/// The whole chain.
#[derive(Debug, Clone)]
pub struct Chain {
    chain_id: u64,
    state: CacheDB<EmptyDB>,
    blocks: Vec<Block>,
    by_hash: HashMap<B256, u64>,
    by_transaction: HashMap<B256, u64>,
}

impl Chain {
    /// A chain with only its genesis block, in which the given accounts have a balance in wei.
    #[must_use]
    pub fn new(chain_id: u64, timestamp: u64, funded: &[(Address, U256)]) -> Self {
        let mut chain = Self {
            chain_id,
            state: CacheDB::new(EmptyDB::default()),
            blocks: Vec::new(),
            by_hash: HashMap::new(),
            by_transaction: HashMap::new(),
        };
        for (address, balance) in funded {
            chain.set_balance(*address, *balance);
        }
        let header = chain.header(0, B256::ZERO, timestamp, None);
        chain.append(header, None);
        chain
    }

    /// EIP-155 chain id.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Height of the newest block.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.latest().header.number
    }

    /// The newest block's time, Unix seconds.
    #[must_use]
    pub fn timestamp(&self) -> u64 {
        self.latest().header.timestamp
    }

    /// The newest block's hash.
    #[must_use]
    pub fn hash(&self) -> B256 {
        self.latest().header.hash()
    }

    pub(crate) fn block(&self, number: u64) -> Option<&Block> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn block_by_hash(&self, hash: &B256) -> Option<&Block> {
        self.block(*self.by_hash.get(hash)?)
    }

    pub(crate) fn mined(&self, transaction: &B256) -> Option<(&Block, &Mined)> {
        let block = self.block(*self.by_transaction.get(transaction)?)?;
        Some((block, block.transaction.as_ref()?))
    }

    pub(crate) fn account(&self, address: Address) -> AccountInfo {
        self.state
            .basic_ref(address)
            .ok()
            .flatten()
            .unwrap_or_default()
    }

    pub(crate) fn code(&self, address: Address) -> Bytes {
        let account = self.account(address);
        let code = account
            .code
            .or_else(|| self.state.code_by_hash_ref(account.code_hash).ok());
        code.map(|code| code.original_bytes()).unwrap_or_default()
    }

    pub(crate) fn storage(&self, address: Address, slot: U256) -> U256 {
        self.state.storage_ref(address, slot).unwrap_or_default()
    }

    /// Gives an account a balance in wei.
    pub fn set_balance(&mut self, address: Address, balance: U256) {
        let account = AccountInfo {
            balance,
            ..self.account(address)
        };
        self.state.insert_account_info(address, account);
    }

    /// Mines a block without transactions.
    pub fn mine_empty(&mut self, timestamp: u64) {
        let header = self.next_header(timestamp);
        self.append(header, None);
    }

    /// Mines a signed transaction in a block of its own, and gives its hash. A reverted
    /// transaction is mined, too.
    ///
    /// # Errors
    /// [`RpcError`] for what is no transaction, or one that cannot be mined now; the chain is
    /// then unchanged.
    pub fn mine(&mut self, raw: &[u8], timestamp: u64) -> Result<B256, RpcError> {
        let transaction = self.admit(raw)?;
        let header = self.next_header(timestamp);
        let environment = environment(&header);
        let executed = self.commit(&environment, &transaction)?;
        let mined = mined(transaction, executed);
        let hash = *mined.transaction.tx_hash();
        self.append(self.sealed_with(&header, &mined), Some(mined));
        Ok(hash)
    }

    /// Runs a call on top of the newest state, at the given time, and keeps nothing.
    pub(crate) fn call(&self, call: &Call, timestamp: u64) -> Result<ExecutionResult, RpcError> {
        let header = self.next_header(timestamp);
        // Nobody pays for a call.
        let block = BlockEnv {
            basefee: 0,
            ..environment(&header)
        };
        let transaction = TxEnv {
            caller: call.from,
            kind: call.to,
            value: call.value,
            data: call.data.clone(),
            gas_limit: call.gas,
            chain_id: Some(self.chain_id),
            ..TxEnv::default()
        };
        let chain_id = self.chain_id;
        let mut state = CacheDB::new(&self.state);
        for (address, account) in &call.overrides {
            overlay(&mut state, *address, account);
        }
        let mut evm = Context::mainnet()
            .with_db(state)
            .with_block(block)
            .modify_cfg_chained(|cfg| {
                cfg.chain_id = chain_id;
                cfg.disable_nonce_check = true;
            })
            .build_mainnet();
        evm.transact(transaction)
            .map(|outcome| outcome.result)
            .map_err(|error| refusal(&error))
    }

    /// Decodes a raw transaction and checks what the EVM does not.
    fn admit(&self, raw: &[u8]) -> Result<Recovered<TxEnvelope>, RpcError> {
        let mut rest = raw;
        let transaction = TxEnvelope::decode_2718(&mut rest)
            .map_err(|error| RpcError::rejected(format!("rlp: {error}")))?;
        if !rest.is_empty() {
            return Err(RpcError::rejected("rlp: bytes follow the transaction"));
        }
        if transaction.ty() > 2 {
            return Err(RpcError::rejected("transaction type not supported"));
        }
        match transaction.chain_id() {
            Some(chain_id) if chain_id == self.chain_id => {}
            got => {
                let got = got.map_or("none".to_owned(), |id| id.to_string());
                let ours = self.chain_id;
                return Err(RpcError::rejected(format!(
                    "invalid chain id: have {got}, want {ours}"
                )));
            }
        }
        if self.by_transaction.contains_key(transaction.tx_hash()) {
            return Err(RpcError::rejected("already known"));
        }
        let from = transaction
            .recover_signer()
            .map_err(|_| RpcError::rejected("invalid sender: the signature does not hold"))?;
        Ok(Recovered::new_unchecked(transaction, from))
    }

    fn commit(
        &mut self,
        block: &BlockEnv,
        transaction: &Recovered<TxEnvelope>,
    ) -> Result<ExecutionResult, RpcError> {
        let chain_id = self.chain_id;
        let mut evm = Context::mainnet()
            .with_db(&mut self.state)
            .with_block(block.clone())
            .modify_cfg_chained(|cfg| cfg.chain_id = chain_id)
            .build_mainnet();
        evm.transact_commit(environment_of(transaction))
            .map_err(|error| refusal(&error))
    }

    fn next_header(&self, timestamp: u64) -> Header {
        let latest = &self.latest().header;
        // Time never runs backwards.
        self.header(
            latest.number + 1,
            latest.hash(),
            timestamp.max(latest.timestamp),
            None,
        )
    }

    fn sealed_with(&self, header: &Header, mined: &Mined) -> Header {
        self.header(
            header.number,
            header.parent_hash,
            header.timestamp,
            Some(mined),
        )
    }

    fn header(
        &self,
        number: u64,
        parent_hash: B256,
        timestamp: u64,
        mined: Option<&Mined>,
    ) -> Header {
        let transactions: Vec<TxEnvelope> = mined
            .iter()
            .map(|mined| mined.transaction.inner().clone())
            .collect();
        let receipts: Vec<Receipt> = mined.iter().map(|mined| mined.receipt.clone()).collect();
        Header {
            parent_hash,
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            beneficiary: Address::ZERO,
            // There is no state trie.
            state_root: B256::ZERO,
            transactions_root: calculate_transaction_root(&transactions),
            receipts_root: calculate_receipt_root(&receipts),
            logs_bloom: mined.map(|mined| mined.receipt.bloom()).unwrap_or_default(),
            difficulty: U256::ZERO,
            number,
            gas_limit: BLOCK_GAS_LIMIT,
            gas_used: mined.map_or(0, |mined| mined.gas_used),
            timestamp,
            extra_data: Bytes::from_static(b"convoke devnet"),
            mix_hash: keccak256([parent_hash.as_slice(), &number.to_be_bytes()].concat()),
            nonce: B64::ZERO,
            base_fee_per_gas: Some(BASE_FEE),
            withdrawals_root: Some(EMPTY_WITHDRAWALS),
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            parent_beacon_block_root: Some(B256::ZERO),
            ..Header::default()
        }
    }

    fn append(&mut self, header: Header, transaction: Option<Mined>) {
        let header = Sealed::new(header);
        let (number, hash) = (header.number, header.hash());
        // For the BLOCKHASH opcode, which itself looks back 256 blocks.
        self.state
            .cache
            .block_hashes
            .insert(U256::from(number), hash);
        self.by_hash.insert(hash, number);
        if let Some(mined) = &transaction {
            self.by_transaction
                .insert(*mined.transaction.tx_hash(), number);
        }
        self.blocks.push(Block {
            header,
            transaction,
        });
    }

    fn latest(&self) -> &Block {
        self.blocks
            .last()
            .expect("a chain is made with its genesis block")
    }
}

fn overlay<D: DatabaseRef>(state: &mut CacheDB<D>, address: Address, changed: &AccountOverride) {
    let mut account = state.basic_ref(address).ok().flatten().unwrap_or_default();
    account.balance = changed.balance.unwrap_or(account.balance);
    account.nonce = changed.nonce.unwrap_or(account.nonce);
    if let Some(code) = &changed.code {
        let code = Bytecode::new_raw(code.clone());
        account.code_hash = code.hash_slow();
        account.code = Some(code);
    }
    state.insert_account_info(address, account);
    let words = |map: &B256HashMap<B256>| {
        let word = |(slot, value): (&B256, &B256)| ((*slot).into(), (*value).into());
        map.iter().map(word).collect::<Vec<(U256, U256)>>()
    };
    // Neither fails: both are in memory.
    if let Some(all) = &changed.state {
        let _ = state.replace_account_storage(address, words(all).into_iter().collect());
    }
    for (slot, value) in changed.state_diff.as_ref().map(words).unwrap_or_default() {
        let _ = state.insert_account_storage(address, slot, value);
    }
}

fn environment(header: &Header) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: BASE_FEE,
        difficulty: U256::ZERO,
        prevrandao: Some(header.mix_hash),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice {
            excess_blob_gas: 0,
            blob_gasprice: 1,
        }),
        slot_num: 0,
    }
}

fn environment_of(transaction: &Recovered<TxEnvelope>) -> TxEnv {
    TxEnv {
        tx_type: transaction.ty(),
        caller: transaction.signer(),
        gas_limit: transaction.gas_limit(),
        gas_price: transaction.max_fee_per_gas(),
        kind: transaction.kind(),
        value: transaction.value(),
        data: transaction.input().clone(),
        nonce: transaction.nonce(),
        chain_id: transaction.chain_id(),
        access_list: transaction.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: transaction.max_priority_fee_per_gas(),
        ..TxEnv::default()
    }
}

fn mined(transaction: Recovered<TxEnvelope>, executed: ExecutionResult) -> Mined {
    let gas_used = executed.tx_gas_used();
    let contract_address = executed.created_address();
    let receipt = alloy_consensus::Receipt {
        status: executed.is_success().into(),
        cumulative_gas_used: gas_used,
        logs: if executed.is_success() {
            executed.into_logs()
        } else {
            Vec::new()
        },
    };
    let receipt = ReceiptWithBloom::from(receipt);
    let receipt = match transaction.ty() {
        0 => ReceiptEnvelope::Legacy(receipt),
        1 => ReceiptEnvelope::Eip2930(receipt),
        _ => ReceiptEnvelope::Eip1559(receipt),
    };
    let effective_gas_price = transaction.effective_gas_price(Some(BASE_FEE));
    Mined {
        transaction,
        receipt,
        gas_used,
        effective_gas_price,
        contract_address,
    }
}

/// Words what the EVM does not take, as geth does.
fn refusal<E: std::fmt::Display>(error: &EVMError<E, InvalidTransaction>) -> RpcError {
    let EVMError::Transaction(invalid) = error else {
        return RpcError::new(-32603, error.to_string());
    };
    RpcError::rejected(match invalid {
        InvalidTransaction::NonceTooLow { tx, state } => {
            format!("nonce too low: next nonce {state}, tx nonce {tx}")
        }
        InvalidTransaction::NonceTooHigh { tx, state } => {
            format!("nonce too high: next nonce {state}, tx nonce {tx}; nothing is queued here")
        }
        InvalidTransaction::LackOfFundForMaxFee { fee, balance } => {
            format!("insufficient funds for gas * price + value: have {balance} want {fee}")
        }
        InvalidTransaction::GasPriceLessThanBasefee => {
            format!("max fee per gas less than block base fee: baseFee {BASE_FEE}")
        }
        InvalidTransaction::CallGasCostMoreThanGasLimit {
            initial_gas,
            gas_limit,
        } => {
            format!("intrinsic gas too low: have {gas_limit}, want {initial_gas}")
        }
        other => other.to_string(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{
        BLOCK_HASHES, COUNTER, GENESIS_TIME, address, chain, deploy, eip1559, ether, legacy, signed,
    };

    fn refused(raw: &[u8]) -> RpcError {
        let mut chain = chain();
        let (height, before) = (chain.height(), chain.account(address(1)));
        let error = chain.mine(raw, GENESIS_TIME).unwrap_err();
        assert_eq!(
            chain.height(),
            height,
            "a refused transaction leaves no block"
        );
        assert_eq!(chain.account(address(1)), before);
        error
    }

    #[test]
    fn a_transfer_moves_value_and_burns_the_fee() {
        let mut chain = chain();
        let to = Address::repeat_byte(9);
        let hash = chain
            .mine(&signed(legacy(0, to, ether(5))), GENESIS_TIME + 7)
            .unwrap();
        let (block, mined) = chain.mined(&hash).unwrap();
        assert!(mined.receipt.status());
        assert_eq!(
            (block.header.number, block.header.timestamp),
            (1, GENESIS_TIME + 7)
        );
        assert_eq!((mined.gas_used, block.header.gas_used), (21_000, 21_000));
        assert_eq!(chain.account(to).balance, ether(5));
        let fee = U256::from(21_000 * BASE_FEE);
        assert_eq!(chain.account(address(1)).balance, ether(995) - fee);
        assert_eq!(chain.account(address(1)).nonce, 1);
    }

    #[test]
    fn the_effective_price_is_base_fee_and_tip_and_the_tip_goes_to_the_beneficiary() {
        let mut chain = chain();
        let mut transaction = eip1559(0, TxKind::Call(Address::repeat_byte(9)), b"");
        transaction.max_priority_fee_per_gas = 5;
        let hash = chain.mine(&signed(transaction), GENESIS_TIME).unwrap();
        let price = chain.mined(&hash).unwrap().1.effective_gas_price;
        assert_eq!(price, u128::from(BASE_FEE) + 5);
        assert_eq!(chain.account(Address::ZERO).balance, U256::from(21_000 * 5));
    }

    #[test]
    fn a_contract_keeps_its_storage_and_logs() {
        let mut chain = chain();
        let counter = deploy(&mut chain, 0, COUNTER);
        assert_eq!(counter, address(1).create(0));
        assert_eq!(chain.code(counter).len(), COUNTER.len() / 2);
        for count in 1u64..=2 {
            let raw = signed(eip1559(count, TxKind::Call(counter), b""));
            let hash = chain.mine(&raw, GENESIS_TIME).unwrap();
            assert_eq!(chain.storage(counter, U256::ZERO), U256::from(count));
            let (block, mined) = chain.mined(&hash).unwrap();
            let log = &mined.receipt.logs()[0];
            assert_eq!(log.topics()[1], B256::from(U256::from(count)));
            assert_eq!(block.header.logs_bloom, mined.receipt.bloom());
        }
        let call = Call {
            to: TxKind::Call(counter),
            gas: 100_000,
            ..Call::default()
        };
        let result = chain.call(&call, GENESIS_TIME).unwrap();
        assert_eq!(U256::from_be_slice(result.output().unwrap()), U256::from(3));
        assert_eq!(
            chain.storage(counter, U256::ZERO),
            U256::from(2),
            "a call keeps nothing"
        );
    }

    #[test]
    fn a_reverted_transaction_is_mined_costs_gas_and_changes_nothing_else() {
        let mut chain = chain();
        let counter = deploy(&mut chain, 0, COUNTER);
        let before = chain.account(address(1)).balance;
        let raw = signed(eip1559(1, TxKind::Call(counter), b"no"));
        let hash = chain.mine(&raw, GENESIS_TIME).unwrap();
        let (_, mined) = chain.mined(&hash).unwrap();
        assert!(!mined.receipt.status());
        assert!(mined.receipt.logs().is_empty());
        assert_eq!(chain.storage(counter, U256::ZERO), U256::ZERO);
        assert_eq!(chain.account(address(1)).nonce, 2);
        assert!(chain.account(address(1)).balance < before);
    }

    #[test]
    fn blockhash_knows_the_last_256_blocks() {
        let mut chain = chain();
        let contract = deploy(&mut chain, 0, BLOCK_HASHES);
        for _ in 0..300 {
            chain.mine_empty(GENESIS_TIME);
        }
        let hash_of = |number: u64| {
            let call = Call {
                to: TxKind::Call(contract),
                data: B256::from(U256::from(number)).into(),
                gas: 100_000,
                ..Call::default()
            };
            let result = chain.call(&call, GENESIS_TIME).unwrap();
            B256::from_slice(result.output().unwrap())
        };
        let height = chain.height();
        assert_eq!(hash_of(height), chain.hash());
        let oldest = height + 1 - 256;
        assert_eq!(hash_of(oldest), chain.block(oldest).unwrap().header.hash());
        assert_eq!(hash_of(oldest - 1), B256::ZERO);
        assert_eq!(hash_of(height + 1), B256::ZERO);
    }

    #[test]
    fn blocks_are_linked_and_time_never_runs_backwards() {
        let mut chain = chain();
        chain.mine_empty(GENESIS_TIME + 10);
        chain.mine_empty(GENESIS_TIME + 5);
        assert_eq!(chain.timestamp(), GENESIS_TIME + 10);
        for number in 1..=chain.height() {
            let block = chain.block(number).unwrap();
            let parent = chain.block(number - 1).unwrap();
            assert_eq!(block.header.parent_hash, parent.header.hash());
            assert_eq!(block.header.hash(), block.header.hash_slow());
        }
    }

    #[test]
    fn nonces_must_follow_one_another() {
        let to = Address::repeat_byte(9);
        let high = refused(&signed(legacy(1, to, U256::ZERO)));
        assert!(high.message.starts_with("nonce too high"), "{high}");
        let mut chain = chain();
        chain
            .mine(&signed(legacy(0, to, U256::ZERO)), GENESIS_TIME)
            .unwrap();
        let low = chain
            .mine(&signed(legacy(0, to, U256::from(1))), GENESIS_TIME)
            .unwrap_err();
        assert!(low.message.starts_with("nonce too low"), "{low}");
        let known = chain
            .mine(&signed(legacy(0, to, U256::ZERO)), GENESIS_TIME)
            .unwrap_err();
        assert_eq!(known.message, "already known");
    }

    #[test]
    fn transactions_of_other_chains_or_of_none_are_refused() {
        let mut other = legacy(0, Address::ZERO, U256::ZERO);
        other.chain_id = Some(1);
        let error = refused(&signed(other.clone()));
        assert_eq!(error.message, "invalid chain id: have 1, want 31337");
        other.chain_id = None;
        assert!(
            refused(&signed(other))
                .message
                .starts_with("invalid chain id")
        );
    }

    #[test]
    fn nobody_spends_what_he_does_not_have() {
        let error = refused(&signed(legacy(0, Address::ZERO, ether(1_000))));
        assert!(error.message.starts_with("insufficient funds"), "{error}");
    }

    #[test]
    fn fees_and_gas_have_their_limits() {
        let mut cheap = eip1559(0, TxKind::Create, b"");
        cheap.max_fee_per_gas = u128::from(BASE_FEE) - 1;
        cheap.max_priority_fee_per_gas = 0;
        let error = refused(&signed(cheap));
        assert!(
            error.message.contains("less than block base fee"),
            "{error}"
        );
        let mut tight = legacy(0, Address::ZERO, U256::ZERO);
        tight.gas_limit = 20_999;
        let error = refused(&signed(tight));
        assert!(
            error.message.starts_with("intrinsic gas too low"),
            "{error}"
        );
        let mut greedy = eip1559(0, TxKind::Create, b"");
        greedy.gas_limit = TRANSACTION_GAS_MAX + 1;
        refused(&signed(greedy));
    }

    #[test]
    fn bytes_that_are_no_transaction_are_refused() {
        let good = signed(legacy(0, Address::ZERO, U256::ZERO));
        refused(b"");
        refused(&[0xff; 40]);
        refused(&good[..good.len() - 1]);
        let error = refused(&[&good[..], &[0]].concat());
        assert!(error.message.contains("bytes follow"), "{error}");
    }

    #[test]
    fn a_balance_set_by_hand_keeps_code_and_nonce() {
        let mut chain = chain();
        let counter = deploy(&mut chain, 0, COUNTER);
        chain.set_balance(counter, ether(3));
        assert_eq!(chain.account(counter).balance, ether(3));
        assert_eq!(chain.account(counter).nonce, 1);
        assert_eq!(chain.code(counter).len(), COUNTER.len() / 2);
    }
}
