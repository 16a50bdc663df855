//! The documents in the form of which the digest is taken: as they are stored on a server, whatever store they come from.
use std::sync::Arc;

use headwater_documents::{Canonical, Digest, DigestError, Digester};
use headwater_proto::{UserId, v1};
use serde::Serialize;

use crate::{
    StoreError,
    findings::{Evaluation, Report, Trace},
    profile::Profile,
    store::{EvaluationDocument, ProfileDocument, Store, TraceDocument},
};

/// A collection that is a function of the log, under its name in SPEC.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Profiles,
    Evaluations,
    Reports,
    Traces,
}

impl Kind {
    /// In the order of the digest.
    pub const ALL: [Self; 4] = [Self::Profiles, Self::Evaluations, Self::Reports, Self::Traces];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Profiles => "risk_profiles",
            Self::Evaluations => "risk_evaluations",
            Self::Reports => "fraud_reports",
            Self::Traces => "event_traces",
        }
    }
}

/// A document of any of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    Profile(UserId, Arc<Profile>),
    Evaluation(Arc<Evaluation>),
    Report(Arc<Report>),
    Trace(Trace),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Form<'a> {
    Profile(ProfileDocument),
    Evaluation(EvaluationDocument),
    #[serde(rename_all = "camelCase")]
    Report {
        #[serde(rename = "_id")]
        id: String,
        user_id: &'a str,
        event_id: String,
        action: &'static str,
        decided_at: String,
        verdict: &'a v1::Verdict,
    },
    Trace(TraceDocument),
}

impl Canonical for Document {
    fn id(&self) -> String {
        match self {
            Self::Profile(user_id, _) => user_id.to_string(),
            Self::Evaluation(evaluation) => evaluation.document_id(),
            Self::Report(report) => report.id.to_string(),
            Self::Trace(trace) => trace.document_id(),
        }
    }

    fn canonical(&self) -> impl Serialize {
        match self {
            Self::Profile(user_id, profile) => Form::Profile(ProfileDocument::of(user_id, profile)),
            Self::Evaluation(evaluation) => Form::Evaluation(EvaluationDocument::of(evaluation)),
            Self::Report(report) => Form::Report {
                id: report.id.to_string(),
                user_id: report.user_id.as_str(),
                event_id: report.trigger.to_string(),
                action: report.level.event_type().as_str(),
                decided_at: report.decided_at.to_string(),
                verdict: &report.verdict,
            },
            Self::Trace(trace) => Form::Trace(TraceDocument::of(trace)),
        }
    }
}

/// Of what is stored now. While somebody writes it is the digest of no moment.
pub async fn digest<S: Store>(store: &S) -> Result<Digest, DigestError<StoreError>> {
    let mut digester = Digester::new();
    for kind in Kind::ALL {
        digester.take(kind.name(), store.documents(kind)).await?;
    }
    Ok(digester.finish())
}
