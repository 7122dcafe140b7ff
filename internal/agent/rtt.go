package agent

import (
	"cmp"
	"context"

	"connectrpc.com/connect/v2"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/secgossip"
)

// EstimateRoundTrip says how far two nodes are from each other.
func (s *service) EstimateRoundTrip(_ context.Context, req *secgossipv1.EstimateRoundTripRequest) (*secgossipv1.EstimateRoundTripResponse, error) {
	out := &secgossipv1.EstimateRoundTripResponse{From: req.GetFrom(), To: cmp.Or(req.GetTo(), s.node.Name())}
	from, err := s.node.Coordinate(out.From)
	if err != nil {
		return nil, connect.NewError(connect.CodeNotFound, err.Error())
	}
	to, err := s.node.Coordinate(out.To)
	if err != nil {
		return nil, connect.NewError(connect.CodeNotFound, err.Error())
	}
	out.RttS = from.DistanceTo(to).Seconds()
	out.FromCoordinate, out.ToCoordinate = coordinateMessage(from), coordinateMessage(to)
	return out, nil
}

func coordinateMessage(c *secgossip.Coordinate) *secgossipv1.Coordinate {
	return &secgossipv1.Coordinate{Vector: c.Vec, Height: c.Height, Error: c.Error}
}
