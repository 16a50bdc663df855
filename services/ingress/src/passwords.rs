//! Hashing and verifying, away from the async threads and never more at once than there are cores.
use std::{
    num::NonZero,
    sync::{Arc, Mutex, PoisonError},
    thread::available_parallelism,
};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, ParamsString, PasswordHash, Salt},
};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::fields::Password;

/// Of argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const PARALLELISM: u32 = 1;

/// Nobody's: an unknown user costs the time of a known one.
const DUMMY_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyB0aGlz$iM0TdSrTkS1Jr7TjSYlGrV6Ld1xJwdXXwrFBGIfSYAI";

#[derive(Clone)]
pub(crate) struct Passwords {
    memories: Arc<Memories>,
    /// Who works, at most the cores.
    working: Arc<Semaphore>,
    /// Who works or waits, at most so many that the last of them is still answered in time.
    admitted: Arc<Semaphore>,
}

/// What hashes work in, as much as ever worked at once: kept, and used again by whoever is next. Freed each time, a
/// block of 19 MiB at an alignment of its own leaves a hole that glibc does not find again, until every arena of the
/// process is full of such holes: 900 MB after a few hundred passwords.
#[derive(Default)]
struct Memories(Mutex<Vec<Vec<Block>>>);

impl Memories {
    fn take(&self) -> Vec<Block> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn put_back(&self, memory: Vec<Block>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }
}

/// Too many passwords wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

impl Passwords {
    /// Beyond `waiting` hashes or verifications that wait, more are refused.
    pub(crate) fn new(waiting: usize) -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Self {
            memories: Arc::default(),
            working: Arc::new(Semaphore::new(cores)),
            admitted: Arc::new(Semaphore::new(cores + waiting)),
        }
    }

    /// As a PHC string with a salt of its own.
    pub(crate) async fn hash(&self, password: Password) -> Result<Arc<str>, Busy> {
        self.work(move |memory| hash(password.as_bytes(), memory).to_string().into()).await
    }

    pub(crate) async fn verify(&self, password: Password, hash: Arc<str>) -> Result<bool, Busy> {
        self.work(move |memory| {
            PasswordHash::new(&hash).is_ok_and(|hash| verifies(password.as_bytes(), &hash, memory).unwrap_or(false))
        })
        .await
    }

    /// Takes as long as [`Passwords::verify`].
    pub(crate) async fn verify_nobodys(&self, password: Password) -> Result<(), Busy> {
        self.verify(password, DUMMY_HASH.into()).await.map(|_| ())
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Vec<Block>) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let admitted = self.admitted.clone().try_acquire_owned().map_err(|_| Busy)?;
        let working = self.working.clone().acquire_owned().await.map_err(|_| Busy)?;
        let memories = self.memories.clone();
        // the permits go along: who no longer waits for the work has not ended it
        let done = spawn_blocking(move || {
            let _permits = (admitted, working);
            let mut memory = memories.take();
            let done = work(&mut memory);
            memories.put_back(memory);
            done
        });
        done.await.map_err(|_| Busy)
    }
}

fn hash(password: &[u8], memory: &mut Vec<Block>) -> PasswordHash {
    const LIMITS: &str = "the parameters are within argon2's limits";
    let params = Params::new(MEMORY_KIB, PASSES, PARALLELISM, None).expect(LIMITS);
    let (salt, version) = (Salt::generate(), Version::V0x13);
    let output = output(Algorithm::Argon2id, version, &params, password, &salt, memory).expect(LIMITS);
    PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(version.into()),
        params: ParamsString::try_from(&params).expect(LIMITS),
        salt: Some(salt),
        hash: Some(output),
    }
}

/// With the parameters that the hash names; an error where it is none of argon2's.
fn verifies(
    password: &[u8],
    hash: &PasswordHash,
    memory: &mut Vec<Block>,
) -> Result<bool, argon2::password_hash::Error> {
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else { return Ok(false) };
    let algorithm = Algorithm::try_from(hash.algorithm.as_str())?;
    let version = hash.version.map(Version::try_from).transpose()?.unwrap_or_default();
    let found = output(algorithm, version, &Params::try_from(hash)?, password, salt, memory)?;
    // compared in constant time
    Ok(found == *expected)
}

fn output(
    algorithm: Algorithm,
    version: Version,
    params: &Params,
    password: &[u8],
    salt: &[u8],
    memory: &mut Vec<Block>,
) -> Result<Output, argon2::password_hash::Error> {
    memory.resize(params.block_count().max(memory.len()), Block::default());
    let blocks = &mut memory[..params.block_count()];
    let mut bytes = [0; Output::MAX_LENGTH];
    let bytes = &mut bytes[..params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN)];
    Argon2::new(algorithm, version, params.clone()).hash_password_into_with_memory(password, salt, bytes, blocks)?;
    Ok(Output::new(bytes)?)
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    fn password(text: &str) -> Password {
        Password::chosen(text).unwrap()
    }

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only() {
        let passwords = Passwords::new(8);
        let hash = passwords.hash(password("correct horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(passwords.verify(password("correct horse"), hash.clone()).await, Ok(true));
        assert_eq!(passwords.verify(password("correct h0rse"), hash).await, Ok(false));
    }

    #[tokio::test]
    async fn many_passwords_take_no_more_memory_than_those_that_were_hashed_at_once() {
        let passwords = Passwords::new(64);
        let hash = passwords.hash(password("correct horse")).await.unwrap();
        let verified = (0..64).map(|_| passwords.verify(password("correct horse"), hash.clone()));
        assert!(join_all(verified).await.into_iter().all(|verified| verified == Ok(true)));
        let memories = passwords.memories.0.lock().unwrap();
        let cores = available_parallelism().map_or(1, NonZero::get);
        assert!(memories.len() <= cores, "{} memories for {cores} cores", memories.len());
        assert!(memories.iter().all(|memory| memory.len() == MEMORY_KIB as usize));
    }

    #[test]
    fn what_another_maker_hashed_verifies_here_and_the_other_way_round() {
        use argon2::password_hash::{PasswordHasher, PasswordVerifier};
        let (theirs, mut memory) = (Argon2::default().hash_password(b"correct horse").unwrap(), Vec::new());
        assert!(verifies(b"correct horse", &theirs, &mut memory).unwrap());
        let ours = hash(b"correct horse", &mut memory);
        assert!(Argon2::default().verify_password(b"correct horse", &ours).is_ok());
        assert!(Argon2::default().verify_password(b"correct h0rse", &ours).is_err());
    }

    #[test]
    fn nobodys_hash_costs_what_a_real_one_costs() {
        let nobodys = PasswordHash::new(DUMMY_HASH).unwrap();
        let real = hash(b"correct horse", &mut Vec::new());
        assert_eq!((nobodys.algorithm, nobodys.version, &nobodys.params), (real.algorithm, real.version, &real.params));
        assert_eq!(nobodys.hash.unwrap().len(), real.hash.unwrap().len());
    }

    #[tokio::test]
    async fn more_passwords_than_may_wait_are_refused_at_once() {
        let passwords = Passwords::new(0);
        let cores = available_parallelism().map_or(1, NonZero::get) as u32;
        let all = passwords.admitted.clone().try_acquire_many_owned(cores).unwrap();
        assert_eq!(passwords.verify_nobodys(password("correct horse")).await, Err(Busy));
        drop(all);
        assert_eq!(passwords.verify_nobodys(password("correct horse")).await, Ok(()));
    }
}
