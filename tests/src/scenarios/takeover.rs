//! The story of a takeover, told of one user, and what every consumer makes of it.
use headwater_proto::v1::{
    AccountStatus, GetDailyActiveUsersRequest, GetMonthlyActiveUsersRequest, GetRiskProfileRequest, GetUserRequest,
    ListFraudReportsRequest, ListSessionsRequest, LoginRequest, ReinstateUserRequest, RiskLevel,
};
use serde_json::{Value, json};

use crate::{Logged, Reached, eventually, reason, reason_of_json};

const PASSWORD: &str = "correct horse";
const NEW_PASSWORD: &str = "battery staple";
/// What the story leaves in the notification log, in order of kind.
const NOTIFIED: [(&str, usize); 4] =
    [("ACCOUNT_NOTICE", 2), ("LOGIN_WARNING", 1), ("SECURITY_ALERT", 2), ("WELCOME", 1)];

fn email_of(user: &str) -> String {
    format!("{user}@example.com")
}

/// Register, log in, fail three times, change password and ip, log in again: the story of a takeover.
fn takeover(user: &str) -> Vec<(&'static str, Value, Result<(), &'static str>)> {
    let home = json!({"ip": "198.51.100.7", "sessionId": "s1"});
    let away = json!({"ip": "203.0.113.9", "sessionId": "s2"});
    let email = email_of(user);
    let wrong = json!({"email": email, "password": "not the password", "context": home});
    vec![
        (
            "RegisterUser",
            json!({"email": format!(" {} ", email.to_uppercase()), "password": PASSWORD, "userId": user, "context": home}),
            Ok(()),
        ),
        ("Login", json!({"email": email, "password": PASSWORD, "context": home}), Ok(())),
        ("Login", wrong.clone(), Err("INVALID_CREDENTIALS")),
        ("Login", wrong.clone(), Err("INVALID_CREDENTIALS")),
        ("Login", wrong, Err("INVALID_CREDENTIALS")),
        (
            "ChangePassword",
            json!({"userId": user, "oldPassword": PASSWORD, "newPassword": NEW_PASSWORD, "context": home}),
            Ok(()),
        ),
        ("ReportIpChange", json!({"userId": user, "ip": "203.0.113.9"}), Ok(())),
        ("Login", json!({"userId": user, "password": NEW_PASSWORD, "context": away}), Ok(())),
    ]
}

/// A user of this name counts as active today, is suspected, told, and needs a new password.
pub async fn a_takeover_comes_back_as_a_forced_reset(platform: &Reached, user: &str) {
    let mut analytics = platform.analytics();
    let today = platform.today();
    let daily = GetDailyActiveUsersRequest { day: today.to_string() };
    let monthly = GetMonthlyActiveUsersRequest { month: today.month().to_string() };
    let before = analytics.get_daily_active_users(daily.clone()).await.expect("a count").into_inner().active_users;
    let before_in_month = analytics.get_monthly_active_users(monthly.clone()).await.expect("a count").into_inner();
    for (method, request, expected) in takeover(user) {
        let (status, answer) = platform.json("UserActions", method, request).await;
        match expected {
            Ok(()) => assert_eq!(status, 200, "{method}: {answer}"),
            Err(reason) => assert_eq!(reason_of_json(&answer), reason, "{method}: {answer}"),
        }
    }

    let account = platform.user_once(user, AccountStatus::PasswordResetRequired).await;
    let email = email_of(user);
    assert_eq!((&account.email, account.failed_attempts, account.last_ip.as_str()), (&email, 0, "203.0.113.9"));

    let active = eventually("one user more is active today", async || {
        let users = analytics.get_daily_active_users(daily.clone()).await.expect("a count").into_inner().active_users;
        (users > before).then_some(users)
    })
    .await;
    assert_eq!(active, before + 1);
    let in_month = analytics.get_monthly_active_users(monthly).await.expect("a count").into_inner().active_users;
    assert_eq!(in_month, before_in_month.active_users + 1);
    let sessions = eventually("both sessions are there", async || {
        let request = ListSessionsRequest { user_id: user.into(), ..Default::default() };
        let sessions = analytics.list_sessions(request).await.ok()?.into_inner().sessions;
        (sessions.len() == 2).then_some(sessions)
    })
    .await;
    assert_eq!(sessions.iter().map(|s| s.session_id.as_str()).collect::<Vec<_>>(), ["s1", "s2"]);

    let mut fraud = platform.fraud();
    // written after its verdict is on the log
    let profile = eventually("the profile has a match", async || {
        let request = GetRiskProfileRequest { user_id: user.into() };
        let profile = fraud.get_risk_profile(request).await.ok()?.into_inner();
        (!profile.matches.is_empty()).then_some(profile)
    })
    .await;
    assert_eq!((profile.score, profile.level()), (50, RiskLevel::PasswordResetRequired), "{profile:?}");
    let request = ListFraudReportsRequest { user_id: user.into(), ..Default::default() };
    let reports = fraud.list_fraud_reports(request).await.unwrap().into_inner().reports;
    assert_eq!(
        reports.iter().map(|r| r.action.as_str()).collect::<Vec<_>>(),
        ["user.password_reset_required", "user.flagged"]
    );

    let expected: usize = NOTIFIED.iter().map(|(_, n)| n).sum();
    let notified = eventually("every notification is written", async || {
        let mut lines = platform.notifications();
        lines.retain(|line| line["userId"] == user);
        (lines.len() >= expected).then_some(lines)
    })
    .await;
    let count = |kind: &str| notified.iter().filter(|line| line["kind"] == kind).count();
    for (kind, n) in NOTIFIED {
        assert_eq!(count(kind), n, "{kind} in {notified:?}");
    }
    assert!(notified.iter().all(|line| line["email"] == email), "{notified:?}");
}

/// A user of this name is taken over, reinstated, and a verdict of before changes nothing.
pub async fn a_reinstated_account_opens_again(platform: &Reached, user: &str) {
    let stale = async || platform.metric("headwater_consumer_outcomes", &[("reason", "stale_epoch")]).await;
    let before = stale().await;
    for (method, request, _) in takeover(user) {
        platform.json("UserActions", method, request).await;
    }
    let mut actions = platform.actions();
    let login = LoginRequest { user_id: user.into(), password: NEW_PASSWORD.into(), ..Default::default() };
    platform.user_once(user, AccountStatus::PasswordResetRequired).await;
    let refused = actions.login(login.clone()).await.expect_err("a login against the verdict");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (tonic::Code::FailedPrecondition, "PASSWORD_RESET_REQUIRED")
    );

    let old_verdict = platform.records("user.events").await;
    let verdict = |r: &&Logged| r.key() == user && r.header("ce_type") == Some("user.password_reset_required");
    let old_verdict = old_verdict.iter().rfind(verdict);
    let old_verdict = old_verdict.expect("the verdict is on the log");
    let request = ReinstateUserRequest { user_id: user.into(), reason: "called us".into(), ..Default::default() };
    actions.reinstate_user(request).await.expect("reinstated");
    let status = async || {
        let request = GetUserRequest { user_id: user.into() };
        let account = platform.actions().get_user(request).await.expect("the account").into_inner();
        (account.status(), account.status_epoch)
    };
    assert_eq!(status().await, (AccountStatus::Active, 1));

    // the same verdict under a new id
    platform.write_again_with_new_id(old_verdict).await;
    let skipped = eventually("the old verdict is skipped for its epoch", async || {
        let skipped = stale().await;
        (skipped > before).then_some(skipped)
    })
    .await;
    assert_eq!(skipped, before + 1.0);
    assert_eq!(status().await, (AccountStatus::Active, 1));
    actions.login(login).await.expect("a login after the reinstatement");
}
