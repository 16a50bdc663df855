//! Which traces are recorded: `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`, as OpenTelemetry describes them.
use std::str::FromStr;

use crate::TraceContext;

/// The samplers that have a name in OpenTelemetry's environment variables.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// A caller's decision is kept.
    parent_based: bool,
    /// Of the traces that begin here, 0 to 1.
    ratio: f64,
    /// Whether the ratio is the sampler's argument.
    by_ratio: bool,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "must be one of always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off, parentbased_traceidratio"
)]
pub struct UnknownSampler;

impl Default for Sampler {
    /// parentbased_always_on.
    fn default() -> Self {
        Self { parent_based: true, ratio: 1.0, by_ratio: false }
    }
}

impl FromStr for Sampler {
    type Err = UnknownSampler;

    fn from_str(name: &str) -> Result<Self, UnknownSampler> {
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let ratio = match root {
            "always_on" | "traceidratio" => 1.0,
            "always_off" => 0.0,
            _ => return Err(UnknownSampler),
        };
        Ok(Self { parent_based, ratio, by_ratio: root == "traceidratio" })
    }
}

impl Sampler {
    /// With the argument of `traceidratio`, from 0 to 1; the other samplers take none.
    #[must_use]
    pub fn with_argument(self, ratio: f64) -> Self {
        if self.by_ratio { Self { ratio, ..self } } else { self }
    }

    /// The context of work that begins under this parent, or of a new trace.
    pub fn begin(self, parent: Option<TraceContext>) -> TraceContext {
        let context = parent.map_or_else(TraceContext::root, TraceContext::child);
        match parent {
            Some(_) if self.parent_based => context,
            _ => TraceContext { sampled: self.takes(context.trace_id), ..context },
        }
    }

    /// By the trace's id alone, so that every service decides alike.
    fn takes(self, trace_id: u128) -> bool {
        self.ratio >= 1.0 || ((trace_id as u64 >> 1) as f64) < self.ratio * (1_u64 << 63) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(name: &str, parent: Option<bool>) -> bool {
        let parent = parent.map(|sampled| TraceContext { sampled, ..TraceContext::root() });
        name.parse::<Sampler>().unwrap().with_argument(0.0).begin(parent).sampled
    }

    #[test]
    fn a_caller_is_followed_by_the_parent_based_samplers_only() {
        for (name, root, of_sampled, of_unsampled) in [
            ("always_on", true, true, true),
            ("always_off", false, false, false),
            ("traceidratio", false, false, false),
            ("parentbased_always_on", true, true, false),
            ("parentbased_always_off", false, true, false),
            ("parentbased_traceidratio", false, true, false),
        ] {
            let found = (sampled(name, None), sampled(name, Some(true)), sampled(name, Some(false)));
            assert_eq!(found, (root, of_sampled, of_unsampled), "{name}");
        }
        assert_eq!("jaeger_remote".parse::<Sampler>(), Err(UnknownSampler));
    }

    #[test]
    fn a_ratio_takes_its_share_of_traces_and_always_the_same_ones() {
        let sampler = "traceidratio".parse::<Sampler>().unwrap().with_argument(0.25);
        let taken = (0..20_000).filter(|_| sampler.begin(None).sampled).count();
        assert!((4_500..5_500).contains(&taken), "{taken} of 20000");
        let root = TraceContext::root();
        assert!((0..10).all(|_| sampler.begin(Some(root)).sampled == sampler.begin(Some(root)).sampled));
    }
}
