//! A bed with the operator, for the tests of one binary: most of them rely on it, and some stop it.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::TestBed;
use crate::error::{Error, Result};

/// Held by those who rely on the operator, and alone by those who stop it.
static OPERATOR: RwLock<()> = RwLock::const_new(());

/// Whether a test has failed, which may have left the operator stopped, or with a configuration of its own.
static FAILED: AtomicBool = AtomicBool::new(false);

/// The bed with the operator, which nobody else stops while this lives.
pub struct Operated<G> {
    /// The bed.
    pub bed: &'static TestBed,
    _operator: G,
}

impl<G> Deref for Operated<G> {
    type Target = TestBed;
    fn deref(&self) -> &TestBed {
        self.bed
    }
}

impl<G> Drop for Operated<G> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            FAILED.store(true, Ordering::Release);
        }
    }
}

impl TestBed {
    /// The bed of this test binary with the operator.
    pub async fn operated() -> Result<Operated<RwLockReadGuard<'static, ()>>> {
        let bed = with_operator().await?;
        if FAILED.load(Ordering::Acquire) {
            drop(Self::operated_alone().await?);
        }
        Ok(Operated {
            bed,
            _operator: OPERATOR.read().await,
        })
    }

    /// The same for a test that stops the operator, which no other test uses meanwhile.
    pub async fn operated_alone() -> Result<Operated<RwLockWriteGuard<'static, ()>>> {
        let bed = with_operator().await?;
        let operated = Operated {
            bed,
            _operator: OPERATOR.write().await,
        };
        if FAILED.swap(false, Ordering::AcqRel) {
            bed.scale_operator(0).await?;
            bed.install_operator().await?;
        }
        Ok(operated)
    }
}

async fn with_operator() -> Result<&'static TestBed> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let bed = TestBed::shared().map_err(|e| Error::Other(e.to_string()))?;
    INSTALLED
        .get_or_try_init(async || bed.install_operator().await)
        .await?;
    Ok(bed)
}
