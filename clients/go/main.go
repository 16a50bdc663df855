// A Headwater client: a user's first minutes, and what the platform makes of them.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "headwater.dev/client/gen/headwater/v1"
)

const actions = 10

func main() {
	address := os.Getenv("HEADWATER_ADDRESS")
	if address == "" {
		address = "localhost:8000"
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := run(ctx, conn); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, conn *grpc.ClientConn) error {
	users, analytics, fraud := pb.NewUserActionsClient(conn), pb.NewAnalyticsClient(conn), pb.NewFraudClient(conn)

	// every call of this context belongs to one trace
	trace, span := make([]byte, 16), make([]byte, 8)
	rand.Read(trace)
	rand.Read(span)
	ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", fmt.Sprintf("00-%x-%x-01", trace, span))
	fmt.Printf("trace       %x\n", trace)

	email, password := uuid.NewString()+"@example.com", "correct horse"
	device := &pb.ActionContext{Ip: "198.51.100.7", UserAgent: "headwater-go"}
	// the event id makes the call safe to repeat: a second one is answered as the first and writes nothing
	registered, err := users.RegisterUser(ctx, &pb.RegisterUserRequest{
		EventId: uuid.NewString(), Email: email, Password: password, Context: device,
	})
	if err != nil {
		return err
	}
	user := registered.GetUserId()
	fmt.Println("registered ", user)
	login, err := users.Login(ctx, &pb.LoginRequest{Email: email, Password: password, Context: device})
	if err != nil {
		return err
	}
	fmt.Println("logged in  ", login.GetSessionId())

	accepted, err := record(ctx, users, user)
	if err != nil {
		return err
	}
	fmt.Printf("recorded    %d of %d\n", accepted, actions)

	// the consumers follow the log: what was accepted is there in a moment
	day := time.Now().UTC().Format(time.DateOnly)
	var active int64
	err = until(ctx, func() (bool, error) {
		answer, err := analytics.GetDailyActiveUsers(ctx, &pb.GetDailyActiveUsersRequest{Day: day})
		active = answer.GetActiveUsers()
		return active > 0, err
	})
	if err != nil {
		return err
	}
	fmt.Printf("active      %d on %s\n", active, day)
	var risk *pb.GetRiskProfileResponse
	err = until(ctx, func() (known bool, err error) {
		risk, err = fraud.GetRiskProfile(ctx, &pb.GetRiskProfileRequest{UserId: user})
		if status.Code(err) == codes.NotFound { // none of the events has arrived yet
			return false, nil
		}
		return risk.GetScore() > 0, err
	})
	if err != nil {
		return err
	}
	fmt.Printf("risk        %d %s by %s\n", risk.GetScore(), risk.GetLevel(), risk.GetMatches()[0].GetRule())

	_, err = users.RegisterUser(ctx, &pb.RegisterUserRequest{Email: "not an address", Password: "short"})
	if err == nil {
		return errors.New("a bad email was accepted")
	}
	fmt.Println("refused    ", details(status.Convert(err)))
	return nil
}

// record reports failed logins that a backend has seen and returns how many were accepted.
func record(ctx context.Context, users pb.UserActionsClient, user string) (accepted int, err error) {
	stream, err := users.RecordActions(ctx)
	if err != nil {
		return 0, err
	}
	// so few fit into the window: a longer stream reads the answers while it sends
	for range actions {
		err := stream.Send(&pb.RecordActionRequest{
			EventId: uuid.NewString(), EventType: "user.login_failed", UserId: user, Payload: &pb.Payload{Ip: "203.0.113.9"},
		})
		if err != nil {
			break // Recv tells why
		}
	}
	if err := stream.CloseSend(); err != nil {
		return 0, err
	}
	for {
		answer, err := stream.Recv()
		if err == io.EOF {
			return accepted, nil
		}
		if err != nil {
			return accepted, err
		}
		// a bad item does not end the stream: its answer carries a status of its own
		if answer.GetStatus() == nil {
			accepted++
		} else {
			fmt.Printf("item %d: %s\n", answer.GetIndex(), details(status.FromProto(answer.GetStatus())))
		}
	}
}

func until(ctx context.Context, ask func() (bool, error)) error {
	for {
		if done, err := ask(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// details are what an error of Headwater carries: the reason, and every bad field at once.
func details(refused *status.Status) string {
	var lines []string
	for _, detail := range refused.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			lines = append(lines, detail.GetReason())
		case *errdetails.BadRequest:
			for _, bad := range detail.GetFieldViolations() {
				lines = append(lines, bad.GetField()+" "+bad.GetDescription())
			}
		}
	}
	return strings.Join(lines, "\n  ")
}
