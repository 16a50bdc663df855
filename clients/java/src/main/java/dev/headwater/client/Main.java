package dev.headwater.client;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import dev.headwater.v1.ActionContext;
import dev.headwater.v1.AnalyticsGrpc;
import dev.headwater.v1.FraudGrpc;
import dev.headwater.v1.GetDailyActiveUsersRequest;
import dev.headwater.v1.GetRiskProfileRequest;
import dev.headwater.v1.LoginRequest;
import dev.headwater.v1.Payload;
import dev.headwater.v1.RecordActionRequest;
import dev.headwater.v1.RecordActionsResponse;
import dev.headwater.v1.RegisterUserRequest;
import dev.headwater.v1.UserActionsGrpc;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.security.SecureRandom;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.function.Predicate;

/** A Headwater client: a user's first minutes, and what the platform makes of them. */
public final class Main {
  private static final int ACTIONS = 10;
  private static final Duration DEADLINE = Duration.ofSeconds(30);

  public static void main(String[] args) throws Exception {
    var address = System.getenv().getOrDefault("HEADWATER_ADDRESS", "localhost:8000");
    var channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
    try {
      // every call that carries it belongs to one trace
      var trace = hex(16);
      System.out.println("trace       " + trace);
      var headers = new Metadata();
      headers.put(
          Metadata.Key.of("traceparent", Metadata.ASCII_STRING_MARSHALLER),
          "00-" + trace + "-" + hex(8) + "-01");
      var traced = ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(headers));
      run(
          UserActionsGrpc.newBlockingV2Stub(traced).withDeadlineAfter(DEADLINE),
          AnalyticsGrpc.newBlockingV2Stub(traced).withDeadlineAfter(DEADLINE),
          FraudGrpc.newBlockingV2Stub(traced).withDeadlineAfter(DEADLINE));
    } finally {
      channel.shutdownNow();
    }
  }

  private static void run(
      UserActionsGrpc.UserActionsBlockingV2Stub users,
      AnalyticsGrpc.AnalyticsBlockingV2Stub analytics,
      FraudGrpc.FraudBlockingV2Stub fraud)
      throws Exception {
    var email = UUID.randomUUID() + "@example.com";
    var password = "correct horse";
    var device = ActionContext.newBuilder().setIp("198.51.100.7").setUserAgent("headwater-java").build();
    // the event id makes the call safe to repeat: a second one is answered as the first and writes nothing
    var registration = RegisterUserRequest.newBuilder().setEventId(UUID.randomUUID().toString());
    var user =
        users.registerUser(registration.setEmail(email).setPassword(password).setContext(device).build()).getUserId();
    System.out.println("registered  " + user);
    var login = LoginRequest.newBuilder().setEmail(email).setPassword(password).setContext(device).build();
    System.out.println("logged in   " + users.login(login).getSessionId());

    System.out.printf("recorded    %d of %d%n", recordFailedLogins(users, user), ACTIONS);

    // the consumers follow the log: what was accepted is there in a moment
    var day = GetDailyActiveUsersRequest.newBuilder().setDay(LocalDate.now(ZoneOffset.UTC).toString()).build();
    var active = until(() -> analytics.getDailyActiveUsers(day), answer -> answer.getActiveUsers() > 0);
    System.out.printf("active      %d on %s%n", active.getActiveUsers(), active.getDay());
    var profile = GetRiskProfileRequest.newBuilder().setUserId(user).build();
    var risk = until(() -> fraud.getRiskProfile(profile), answer -> answer.getScore() > 0);
    System.out.printf("risk        %d %s by %s%n", risk.getScore(), risk.getLevel(), risk.getMatches(0).getRule());

    try {
      users.registerUser(RegisterUserRequest.newBuilder().setEmail("not an address").setPassword("short").build());
      throw new IllegalStateException("a bad email was accepted");
    } catch (StatusException refused) {
      System.out.println("refused     " + details(refused));
    }
  }

  /** Reports what a backend has seen that authenticates its users itself; returns how many were accepted. */
  private static int recordFailedLogins(UserActionsGrpc.UserActionsBlockingV2Stub users, String user)
      throws Exception {
    var stream = users.recordActions();
    var action =
        RecordActionRequest.newBuilder()
            .setEventType("user.login_failed")
            .setUserId(user)
            .setPayload(Payload.newBuilder().setIp("203.0.113.9"));
    // so few fit into the window: a longer stream reads the answers while it writes
    for (int i = 0; i < ACTIONS; i++) {
      stream.write(action.setEventId(UUID.randomUUID().toString()).build());
    }
    stream.halfClose();
    int accepted = 0;
    for (RecordActionsResponse answer; (answer = stream.read()) != null; ) {
      // a bad item does not end the stream: its answer carries a status of its own
      if (answer.hasStatus()) {
        var refused = StatusProto.toStatusException(answer.getStatus());
        System.out.printf("item %d: %s%n", answer.getIndex(), details(refused));
      } else {
        accepted++;
      }
    }
    return accepted;
  }

  /** The details that an error of Headwater carries: the reason, and every bad field at once. */
  private static String details(StatusException refused) throws InvalidProtocolBufferException {
    List<String> lines = new ArrayList<>();
    for (var detail : StatusProto.fromThrowable(refused).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        lines.add(detail.unpack(ErrorInfo.class).getReason());
      } else if (detail.is(BadRequest.class)) {
        for (var bad : detail.unpack(BadRequest.class).getFieldViolationsList()) {
          lines.add(bad.getField() + " " + bad.getDescription());
        }
      }
    }
    return String.join("\n  ", lines);
  }

  private static <T> T until(Callable<T> ask, Predicate<T> there) throws Exception {
    for (var end = Instant.now().plus(DEADLINE); Instant.now().isBefore(end); Thread.sleep(50)) {
      try {
        var answer = ask.call();
        if (there.test(answer)) {
          return answer;
        }
      } catch (StatusException error) {
        if (error.getStatus().getCode() != Status.Code.NOT_FOUND) { // none of the events has arrived yet
          throw error;
        }
      }
    }
    throw new IllegalStateException("not there after " + DEADLINE);
  }

  private static String hex(int bytes) {
    var random = new byte[bytes];
    new SecureRandom().nextBytes(random);
    return HexFormat.of().formatHex(random);
  }
}
