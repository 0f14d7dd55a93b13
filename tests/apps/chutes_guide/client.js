class ChutesStreamingClient {
    constructor(baseUrl) {
        this.baseUrl = baseUrl;
        this.eventSource = null;
        this.websocket = null;
    }

    // HTTP Streaming (Server-Sent Events)
    streamHTTP(endpoint, options = {}) {
        return new Promise((resolve, reject) => {
            const url = `${this.baseUrl}${endpoint}`;

            this.eventSource = new EventSource(url);

            const results = [];

            this.eventSource.onmessage = (event) => {
                try {
                    const data = JSON.parse(event.data);
                    results.push(data);

                    // Call progress callback if provided
                    if (options.onProgress) {
                        options.onProgress(data);
                    }

                    // Check for completion
                    if (data.done || data.is_complete) {
                        this.eventSource.close();
                        resolve(results);
                    }
                } catch (e) {
                    console.error('Failed to parse SSE data:', e);
                }
            };

            this.eventSource.onerror = (error) => {
                this.eventSource.close();
                reject(error);
            };
        });
    }

    // WebSocket Streaming
    async connectWebSocket(endpoint) {
        return new Promise((resolve, reject) => {
            const wsUrl = `ws${
                this.baseUrl.startsWith('https') ? 's' : ''
            }://${this.baseUrl.replace(/^https?:\/\//, '')}${endpoint}`;

            this.websocket = new WebSocket(wsUrl);

            this.websocket.onopen = () => {
                resolve(this);
            };

            this.websocket.onerror = (error) => {
                reject(error);
            };

            this.websocket.onclose = () => {
                console.log('WebSocket connection closed');
            };
        });
    }

    // Send message via WebSocket
    sendMessage(message) {
        if (this.websocket && this.websocket.readyState === WebSocket.OPEN) {
            this.websocket.send(JSON.stringify(message));
        }
    }

    // Set message handler
    onMessage(handler) {
        if (this.websocket) {
            this.websocket.onmessage = (event) => {
                try {
                    const data = JSON.parse(event.data);
                    handler(data);
                } catch (e) {
                    console.error('Failed to parse WebSocket message:', e);
                }
            };
        }
    }

    // Clean up connections
    disconnect() {
        if (this.eventSource) {
            this.eventSource.close();
            this.eventSource = null;
        }

        if (this.websocket) {
            this.websocket.close();
            this.websocket = null;
        }
    }
}

// Usage examples
const client = new ChutesStreamingClient('https://myuser-my-chute.chutes.ai');

// HTTP Streaming example
client
    .streamHTTP('/generate_stream', {
        onProgress: (data) => {
            console.log('Received token:', data.token);
            // Update UI with streaming content
            document.getElementById('output').textContent += data.token;
        }
    })
    .then((results) => {
        console.log('Streaming complete:', results);
    });

// WebSocket example
client.connectWebSocket('/chat').then(() => {
    client.onMessage((data) => {
        if (data.type === 'ai_message_partial') {
            // Update chat interface with partial message
            updateChatInterface(data.content);
        }
    });

    // Send a message
    client.sendMessage({
        type: 'user_message',
        message: 'Hello, AI!'
    });
});
