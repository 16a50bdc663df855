//! Hashing and verifying, away from the async threads and never more at once than there are cores.
use std::{num::NonZero, sync::Arc, thread::available_parallelism, time::Duration};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
};

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
    threads: Arc<Threads>,
    /// Who works, at most the cores.
    working: Arc<Semaphore>,
    /// Who works or waits, at most so many that the last of them is still answered in time.
    admitted: Arc<Semaphore>,
}

/// One per core, kept: an allocator holds on to the 19 MiB that each thread has once worked in, and over all of the
/// process's blocking threads that would come to gigabytes.
struct Threads(Option<Runtime>);

impl Threads {
    fn new(cores: usize) -> Self {
        let mut threads = Builder::new_current_thread();
        let threads = threads.thread_name("passwords").max_blocking_threads(cores).thread_keep_alive(Duration::MAX);
        Self(Some(threads.build().expect("a runtime without drivers asks nothing of the system")))
    }
}

impl Drop for Threads {
    /// A runtime must not be waited for in another one.
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
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
            threads: Arc::new(Threads::new(cores)),
            working: Arc::new(Semaphore::new(cores)),
            admitted: Arc::new(Semaphore::new(cores + waiting)),
        }
    }

    /// As a PHC string with a salt of its own.
    pub(crate) async fn hash(&self, password: Password) -> Result<Arc<str>, Busy> {
        self.work(move || {
            let hash = argon2().hash_password(password.as_bytes()).expect("the operating system gives random bytes");
            hash.to_string().into()
        })
        .await
    }

    pub(crate) async fn verify(&self, password: Password, hash: Arc<str>) -> Result<bool, Busy> {
        self.work(move || {
            let hash = PasswordHash::new(&hash);
            hash.is_ok_and(|hash| argon2().verify_password(password.as_bytes(), &hash).is_ok())
        })
        .await
    }

    /// Takes as long as [`Passwords::verify`].
    pub(crate) async fn verify_nobodys(&self, password: Password) -> Result<(), Busy> {
        self.verify(password, DUMMY_HASH.into()).await.map(|_| ())
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let admitted = self.admitted.clone().try_acquire_owned().map_err(|_| Busy)?;
        let working = self.working.clone().acquire_owned().await.map_err(|_| Busy)?;
        // the permits go along: who no longer waits for the work has not ended it
        let threads = self.threads.0.as_ref().expect("only drop takes the threads");
        let done = threads.spawn_blocking(move || {
            let _permits = (admitted, working);
            work()
        });
        done.await.map_err(|_| Busy)
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, PARALLELISM, None).expect("the parameters are within argon2's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn nobodys_hash_costs_what_a_real_one_costs() {
        let nobodys = PasswordHash::new(DUMMY_HASH).unwrap();
        let real = argon2().hash_password(b"correct horse").unwrap();
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
