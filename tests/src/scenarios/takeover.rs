//! One event through: what goes in over gRPC or JSON comes out as metrics, notifications and fraud decisions,
//! and a decision comes back to the account.
use headwater_proto::v1::{
    AccountStatus, GetDailyActiveUsersRequest, GetMonthlyActiveUsersRequest, GetRiskProfileRequest, GetUserRequest,
    ListFraudReportsRequest, ListSessionsRequest, LoginRequest, ReinstateUserRequest, RiskLevel,
};
use serde_json::{Value, json};

use crate::{Logged, Reached, eventually, reason, reason_of_json};

const PASSWORD: &str = "correct horse";
const NEW_PASSWORD: &str = "battery staple";
/// What ada's story leaves in the notification log, in order of kind.
const NOTIFIED: [(&str, usize); 4] =
    [("ACCOUNT_NOTICE", 2), ("LOGIN_WARNING", 1), ("SECURITY_ALERT", 2), ("WELCOME", 1)];

/// Register, log in, fail three times, change password and ip, log in again: the story of a takeover, on the day of
/// this run.
fn takeover(platform: &Reached) -> Vec<(&'static str, Value, Result<(), &'static str>)> {
    let (ada, email) = (platform.name("ada"), email(platform));
    let home = json!({"ip": "198.51.100.7", "sessionId": "s1"});
    let away = json!({"ip": "203.0.113.9", "sessionId": "s2"});
    let wrong = json!({"email": email, "password": "not the password", "context": home});
    let mut steps = vec![
        (
            "RegisterUser",
            json!({"email": format!(" {} ", email.to_uppercase()), "password": PASSWORD, "userId": ada, "context": home}),
            Ok(()),
        ),
        ("Login", json!({"email": email, "password": PASSWORD, "context": home}), Ok(())),
        ("Login", wrong.clone(), Err("INVALID_CREDENTIALS")),
        ("Login", wrong.clone(), Err("INVALID_CREDENTIALS")),
        ("Login", wrong, Err("INVALID_CREDENTIALS")),
        (
            "ChangePassword",
            json!({"userId": ada, "oldPassword": PASSWORD, "newPassword": NEW_PASSWORD, "context": home}),
            Ok(()),
        ),
        ("ReportIpChange", json!({"userId": ada, "ip": "203.0.113.9"}), Ok(())),
        ("Login", json!({"userId": ada, "password": NEW_PASSWORD, "context": away}), Ok(())),
    ];
    for (second, (_, request, _)) in steps.iter_mut().enumerate() {
        let at = platform.day().start().plus_millis(second as i64 * 1_000);
        request["occurredAt"] = json!(at.to_string());
    }
    steps
}

fn email(platform: &Reached) -> String {
    format!("{}@example.com", platform.name("ada"))
}

/// A user registers, is taken over, and needs a new password.
pub async fn a_takeover_comes_back_as_a_forced_reset(platform: &Reached) {
    let (ada, email) = (platform.name("ada"), email(platform));
    for (method, request, expected) in takeover(platform) {
        let (status, answer) = platform.json("UserActions", method, request).await;
        match expected {
            Ok(()) => assert_eq!(status, 200, "{method}: {answer}"),
            Err(reason) => assert_eq!(reason_of_json(&answer), reason, "{method}: {answer}"),
        }
    }

    let user = platform.user_once(&ada, AccountStatus::PasswordResetRequired).await;
    assert_eq!((user.email, user.failed_attempts, user.last_ip.as_str()), (email.clone(), 0, "203.0.113.9"));

    let mut analytics = platform.analytics();
    let day = platform.day();
    let active = eventually("ada counts as active on her day", async || {
        let request = GetDailyActiveUsersRequest { day: day.to_string() };
        let users = analytics.get_daily_active_users(request).await.expect("a count").into_inner().active_users;
        (users > 0).then_some(users)
    })
    .await;
    assert_eq!(active, 1);
    eventually("and in her month", async || {
        let month = GetMonthlyActiveUsersRequest { month: day.month().to_string() };
        let users = analytics.get_monthly_active_users(month).await.expect("a count").into_inner().active_users;
        (users >= 1).then_some(())
    })
    .await;
    let sessions = eventually("both sessions are there", async || {
        let request = ListSessionsRequest { user_id: ada.clone(), ..Default::default() };
        let sessions = analytics.list_sessions(request).await.ok()?.into_inner().sessions;
        (sessions.len() == 2).then_some(sessions)
    })
    .await;
    assert_eq!(sessions.iter().map(|s| s.session_id.as_str()).collect::<Vec<_>>(), ["s1", "s2"]);

    let mut fraud = platform.fraud();
    // written after its verdict is on the log
    let profile = eventually("the profile has a match", async || {
        let request = GetRiskProfileRequest { user_id: ada.clone() };
        let profile = fraud.get_risk_profile(request).await.ok()?.into_inner();
        (!profile.matches.is_empty()).then_some(profile)
    })
    .await;
    assert_eq!((profile.score, profile.level()), (50, RiskLevel::PasswordResetRequired), "{profile:?}");
    let request = ListFraudReportsRequest { user_id: ada.clone(), ..Default::default() };
    let reports = fraud.list_fraud_reports(request).await.unwrap().into_inner().reports;
    assert_eq!(
        reports.iter().map(|r| r.action.as_str()).collect::<Vec<_>>(),
        ["user.password_reset_required", "user.flagged"]
    );

    let expected: usize = NOTIFIED.iter().map(|(_, n)| n).sum();
    let notified = eventually("every notification is written", async || {
        let lines = platform.notifications_of(&ada);
        (lines.len() >= expected).then_some(lines)
    })
    .await;
    let count = |kind: &str| notified.iter().filter(|line| line["kind"] == kind).count();
    for (kind, n) in NOTIFIED {
        assert_eq!(count(kind), n, "{kind} in {notified:?}");
    }
    assert!(notified.iter().all(|line| line["email"] == email), "{notified:?}");
}

/// The verdict of before the reinstatement is written once more.
pub async fn a_reinstated_account_opens_again(platform: &Reached) {
    let ada = platform.name("ada");
    for (method, request, _) in takeover(platform) {
        platform.json("UserActions", method, request).await;
    }
    let mut actions = platform.actions();
    let login = LoginRequest { user_id: ada.clone(), password: NEW_PASSWORD.into(), ..Default::default() };
    platform.user_once(&ada, AccountStatus::PasswordResetRequired).await;
    let refused = actions.login(login.clone()).await.expect_err("a login against the verdict");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (tonic::Code::FailedPrecondition, "PASSWORD_RESET_REQUIRED")
    );

    let log = platform.records("user.events").await;
    let is_verdict = |r: &&Logged| r.key() == ada && r.header("ce_type") == Some("user.password_reset_required");
    let old_verdict = log.iter().rfind(is_verdict).expect("the verdict is on the log");
    let request = ReinstateUserRequest { user_id: ada.clone(), reason: "called us".into(), ..Default::default() };
    actions.reinstate_user(request).await.expect("reinstated");
    let status = async || {
        let user =
            platform.actions().get_user(GetUserRequest { user_id: ada.clone() }).await.expect("ada").into_inner();
        (user.status(), user.status_epoch)
    };
    assert_eq!(status().await, (AccountStatus::Active, 1));

    // the same verdict under a new id
    platform.write_again_with_new_id(old_verdict).await;
    let group = format!("ingress-account-status-group{}", platform.group_suffix);
    let labels = [("reason", "stale_epoch"), ("messaging_consumer_group_name", group.as_str())];
    let skipped = eventually("the old verdict is skipped for its epoch", async || {
        let skipped = platform.metric("headwater_consumer_outcomes", &labels).await;
        (skipped > 0.0).then_some(skipped)
    })
    .await;
    assert_eq!(skipped, 1.0);
    assert_eq!(status().await, (AccountStatus::Active, 1));
    actions.login(login).await.expect("a login after the reinstatement");
}
